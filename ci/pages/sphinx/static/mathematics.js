// @ts-check
// Lets KaTeX draw the TeX that ci/pages/sphinx/course_pages.py wrote; loaded where there is mathematics.

for (const element of document.querySelectorAll(".math")) {
  const target = element.querySelector(".tex") ?? element;
  katex.render(target.textContent, target, { displayMode: element.matches("div"), throwOnError: false });
}
