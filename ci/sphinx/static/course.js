// What the pages need beyond the theme: mathematics, and what keyboards, screen readers and file:// need.

function renderMathematics() {
  for (const element of document.querySelectorAll(".math")) {
    const target = element.querySelector(".tex") ?? element;
    katex.render(target.textContent, target, { displayMode: element.matches("div"), throwOnError: false });
  }
}

// A box that scrolls sideways must be reachable by keyboard. Which ones scroll changes with width, fonts and folds.
const SCROLLING = ".tex, .highlight pre, .kdlib-records pre, .text_html, .pst-scrollable-table-container";

function letKeyboardScroll(box) {
  if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  else box.removeAttribute("tabindex");
}

function watchScrollingBoxes() {
  const boxes = [...document.querySelectorAll(SCROLLING)];
  const observer = new ResizeObserver((entries) => entries.forEach((entry) => letKeyboardScroll(entry.target)));
  boxes.forEach((box) => observer.observe(box));
  document.fonts.ready.then(() => boxes.forEach(letKeyboardScroll));
}

// The theme names every fold 'Toggle hidden content', which hides the words that are on it.
function nameFoldsByTheirText() {
  for (const summary of document.querySelectorAll("details.hide > summary")) summary.removeAttribute("aria-label");
}

// In the sidebar the theme's buttons for folded pages are arrows without a name.
function namePagesBelow() {
  for (const summary of document.querySelectorAll("nav .toctree-l1 > details > summary")) {
    const page = summary.closest("li").querySelector("a").textContent.trim();
    summary.setAttribute("aria-label", `Pages below ${page}`);
  }
}

// Search fetches each page it found to quote from it; from disk a browser refuses, with a console error for each.
function searchFromDisk() {
  if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

searchFromDisk();
nameFoldsByTheirText();
namePagesBelow();
if (window.katex) renderMathematics();
watchScrollingBoxes();
