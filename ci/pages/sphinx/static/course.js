// @ts-check
// What the pages need beyond the theme: what keyboards, screen readers and file:// need.

// A box that scrolls sideways must be reachable by keyboard. Which ones scroll changes with width, fonts and folds.
const SCROLLING = ".tex, .highlight pre, .kdlib-records pre, .text_html, .pst-scrollable-table-container";

/** @param {Element} box */
function letKeyboardScroll(box) {
  if (box.scrollWidth > box.clientWidth) box.setAttribute("tabindex", "0");
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
    const page = summary.closest("li")?.querySelector("a")?.textContent.trim();
    if (page) summary.setAttribute("aria-label", `Pages below ${page}`);
  }
}

// The theme's left sidebar is a part of the page without a name.
function nameSidebar() {
  const sidebar = document.getElementById("pst-primary-sidebar");
  sidebar?.setAttribute("role", "complementary");
  sidebar?.setAttribute("aria-label", "The course");
}

// Search fetches each page it found to quote from it; from disk a browser refuses, with a console error for each.
function searchFromDisk() {
  if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

// Paper is white: a page that is dark on the screen prints light.
function printLight() {
  const root = document.documentElement;
  let theme = root.dataset.theme;
  addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    root.dataset.theme = "light";
  });
  addEventListener("afterprint", () => (root.dataset.theme = theme));
}

searchFromDisk();
printLight();
nameFoldsByTheirText();
namePagesBelow();
nameSidebar();
watchScrollingBoxes();
