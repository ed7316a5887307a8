// @ts-check
// Definitions of glossary terms: on hover and focus, and on the first touch; Escape closes, the link leads to the entry.

const GAP = 6;
/** @type {{ term: HTMLAnchorElement, box: HTMLElement } | null} */
let open = null;

/** @type {NodeListOf<HTMLAnchorElement>} */
const terms = document.querySelectorAll("a.kd-term");

/** @param {HTMLAnchorElement} term */
function definitionOf(term) {
  return /** @type {HTMLElement} */ (document.getElementById(`definition-${term.hash.slice(1)}`));
}

/** @param {HTMLAnchorElement} term */
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

for (const term of terms) {
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
  term.addEventListener("click", (/** @type {PointerEvent} */ event) => {
    if (event.pointerType === "mouse" || !event.pointerType || open?.term === term) return;
    event.preventDefault();
    show(term);
  });
  box.addEventListener("pointerenter", stay);
  box.addEventListener("pointerleave", hideSoon);
}

document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
document.addEventListener("pointerdown", (event) => {
  const at = /** @type {Node} */ (event.target);
  if (open && !open.box.contains(at) && at !== open.term) hide();
});
