// @ts-check
// Prediction questions: their folds answer by themselves; here one is open at a time, read out, and can be taken back.
// In print the options stand closed, and the answers follow at the end of the page.

/** @param {Element} node */
const copyOf = (node) => /** @type {Element} */ (node.cloneNode(true));

/**
 * A formula's text is there twice, as MathML and as a drawing, and its TeX a third time.
 * @param {Element} option
 */
function spokenText(option) {
  const words = copyOf(option);
  words.querySelectorAll("summary, .katex-html, annotation").forEach((node) => node.remove());
  return words.textContent.replace(/\s+/g, " ").trim();
}

/** @param {HTMLElement} box */
function letAnswersBeTakenBack(box) {
  /** @type {HTMLDetailsElement[]} */
  const options = Array.from(box.querySelectorAll("details[data-answer]"));
  const reply = Object.assign(document.createElement("div"), { className: "prediction-spoken" });
  reply.setAttribute("role", "status");
  const again = Object.assign(document.createElement("button"), { type: "button", textContent: "Try again", hidden: true });
  again.className = "prediction-again";
  again.addEventListener("click", () => {
    options.forEach((option) => (option.open = false));
    options[0].querySelector("summary")?.focus();
  });
  for (const option of options) {
    // Folds of one name: the browser closes the others itself, before anything else can happen.
    option.setAttribute("name", box.id);
    option.addEventListener("toggle", () => {
      const chosen = options.find((each) => each.open);
      reply.textContent = chosen ? spokenText(chosen) : "";
      again.hidden = !chosen;
    });
  }
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Prediction");
  box.append(again, reply);
}

/**
 * The right option with its reason. Ids would be there twice, and that it is right needs no saying.
 * @type {(box: HTMLElement, number: string) => HTMLElement}
 */
function printedAnswer(box, number) {
  const [right, summary] = box.querySelectorAll('[data-answer="right"], [data-answer="right"] > summary');
  const item = document.createElement("li");
  const option = Object.assign(document.createElement("strong"), { innerHTML: summary.innerHTML });
  const why = [...right.children].filter((node) => node !== summary).map(copyOf);
  why.forEach((node) => [node, ...node.querySelectorAll("[id]")].forEach((each) => each.removeAttribute("id")));
  why[0].querySelector("strong")?.remove();
  item.append(`Prediction ${number}: `, option, ...why);
  return item;
}

/** @param {NodeListOf<HTMLElement>} boxes */
function printAnswersAtTheEnd(boxes) {
  const answers = Object.assign(document.createElement("section"), { className: "prediction-answers" });
  const list = document.createElement("ul");
  answers.append(Object.assign(document.createElement("h2"), { textContent: "Answers to the predictions" }), list);
  for (const box of boxes) {
    const number = box.id.replace("prediction-", "").replace("-", ".");
    box.dataset.number = number;
    list.append(printedAnswer(box, number));
  }
  document.querySelector(".bd-article")?.append(answers);
}

/** @type {NodeListOf<HTMLElement>} */
const boxes = document.querySelectorAll(".prediction");
printAnswersAtTheEnd(boxes);
boxes.forEach(letAnswersBeTakenBack);
