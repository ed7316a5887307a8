// Definitions of glossary terms: on hover and focus, and on the first touch; Escape closes, the link leads to the entry.

const GAP = 6;
let open = null;

function definitionOf(term) {
  return document.getElementById(`definition-${term.hash.slice(1)}`);
}

function show(term) {
  hide();
  const box = definitionOf(term);
  box.hidden = false;
  const place = term.getClientRects()[0];
  const left = Math.min(place.left, document.documentElement.clientWidth - box.offsetWidth - GAP);
  const above = place.top - box.offsetHeight - GAP;
  const below = place.bottom + GAP;
  box.style.left = `${Math.max(GAP, left) + scrollX}px`;
  box.style.top = `${(below + box.offsetHeight > innerHeight && above > 0 ? above : below) + scrollY}px`;
  open = { term, box };
}

function hide() {
  if (open) open.box.hidden = true;
  open = null;
}

// A pointer that crosses the gap from the term to its definition must not lose it.
let leaving = 0;

function hideSoon() {
  leaving = setTimeout(hide, 150);
}

function stay() {
  clearTimeout(leaving);
}

for (const term of document.querySelectorAll("a.kd-term")) {
  const box = definitionOf(term);
  document.body.append(box);
  term.setAttribute("aria-describedby", box.id);
  term.addEventListener("pointerenter", (event) => {
    stay();
    if (event.pointerType === "mouse") show(term);
  });
  term.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hideSoon());
  term.addEventListener("focus", () => term.matches(":focus-visible") && show(term));
  term.addEventListener("blur", hide);
  // A finger cannot hover: its first touch shows the definition, its second follows the link.
  term.addEventListener("click", (event) => {
    if (event.pointerType === "mouse" || !event.pointerType || open?.term === term) return;
    event.preventDefault();
    show(term);
  });
  box.addEventListener("pointerenter", stay);
  box.addEventListener("pointerleave", hideSoon);
}

document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
document.addEventListener("pointerdown", (event) => {
  if (open && !open.box.contains(event.target) && event.target !== open.term) hide();
});
