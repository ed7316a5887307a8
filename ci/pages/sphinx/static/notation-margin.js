// @ts-check
// The symbols of the section in view: in the right sidebar where there is one, else behind a button at the bottom.

const margin = /** @type {HTMLElement} */ (document.querySelector(".kd-notation"));
const fold = /** @type {HTMLDetailsElement} */ (margin.querySelector("details"));
const article = /** @type {HTMLElement} */ (margin.parentElement);
/** @type {NodeListOf<HTMLElement>} */
const rows = margin.querySelectorAll("[data-sections]");
const sidebar = document.querySelector(".bd-sidebar-secondary");
const wide = matchMedia("(min-width: 1200px)"); // where the theme shows its right sidebar

function place() {
  const home = (wide.matches && sidebar) || article;
  home.append(margin);
  fold.open = home === sidebar;
}

// Sections come in the order of the page, so the last one that has begun is the one in view.
function sectionInView() {
  const line = innerHeight * 0.35;
  const sections = document.querySelectorAll(".bd-article > section[id], .bd-article > section > section[id]");
  return [...sections].findLast((section) => section.getBoundingClientRect().top <= line) ?? sections[0];
}

let shown = "";

function follow() {
  const section = sectionInView().id;
  if (section === shown) return;
  shown = section;
  for (const row of rows) row.hidden = !row.dataset.sections?.split(" ").includes(section);
  margin.hidden = [...rows].every((row) => row.hidden);
}

let waiting = false;

function followSoon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    follow();
  });
}

margin.dataset.follows = "";
place();
follow();
wide.addEventListener("change", place);
addEventListener("scroll", followSoon, { passive: true });
addEventListener("resize", followSoon);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !wide.matches) fold.open = false;
});
