// Makes a question with lettered options answerable: a button for each option, and on choosing
// one its own reason. The notebook holds plain Markdown (see CONTRIBUTING.md): a list of options,
// each beginning with a bold letter, and right after it <details> with a list of reasons, each
// beginning with "A. Right." or "A. Wrong.". Without this script, the <details> open as ever.
(() => {
  "use strict";

  const REASON = /^([A-Z])\. (Right|Wrong)\.$/;
  let made = 0;

  const element = (name, properties) => Object.assign(document.createElement(name), properties);

  /** The bold words that an item of a list begins with, as an element, or nothing. */
  function opening(item) {
    const holder = item.firstElementChild?.tagName === "P" ? item.firstElementChild : item;
    const first = holder.firstElementChild;
    return first?.tagName === "STRONG" && holder.textContent.trim().startsWith(first.textContent)
      ? first
      : null;
  }

  /** Whether an item of a list is one paragraph and no more. */
  function isPlain(item) {
    return !item.querySelector("p, ul, ol, pre, table") || (item.children.length === 1 && item.firstElementChild.tagName === "P");
  }

  /** The parts of one quiz, or nothing if the mould is not met: then the text stays as it is. */
  function parts(details) {
    const options = details.previousElementSibling;
    const reasons = details.querySelector("ul");
    if (options?.tagName !== "UL" || !reasons) return null;
    const choices = [...options.children].map((item) => ({ item, letter: opening(item) }));
    const answers = [...reasons.children].map((item) => {
      const match = REASON.exec(opening(item)?.textContent ?? "");
      return match && { item, letter: match[1], right: match[2] === "Right" };
    });
    const fits =
      choices.length > 1 &&
      choices.length === answers.length &&
      choices.every(({ item }) => isPlain(item)) &&
      choices.every(({ letter }, i) => letter?.textContent === `${answers[i]?.letter}.`) &&
      answers.filter(({ right }) => right).length === 1;
    return fits ? { details, options, choices, answers } : null;
  }

  function upgrade({ details, options, choices, answers }) {
    const name = `quiz-${++made}`;
    const question = options.previousElementSibling;
    if (question) question.id ||= `${name}-question`;
    options.classList.add("quiz-options");
    options.setAttribute("role", "group");
    if (question) options.setAttribute("aria-labelledby", question.id);
    // Reasons are moved, not copied: formulas in them are typeset once.
    const said = element("div");
    said.setAttribute("role", "status");
    const buttons = choices.map(({ item, letter }, i) => {
      item.setAttribute("role", "presentation");
      item.dataset.letter = answers[i].letter; // for print, where there are no buttons
      const text = element("span", { id: `${name}-option-${i}` });
      text.append(...[...letter.parentElement.childNodes].filter((node) => node !== letter));
      const textContent = answers[i].letter;
      const button = element("button", { type: "button", id: `${name}-button-${i}`, textContent });
      button.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-labelledby", `${button.id} ${text.id}`);
      item.replaceChildren(button, text);
      const reason = element("div", { className: "quiz-reason" });
      reason.append(...answers[i].item.childNodes);
      said.append(reason);
      return button;
    });

    function choose(chosen) {
      buttons.forEach((button, i) => {
        const here = i === chosen;
        button.setAttribute("aria-pressed", String(here));
        choices[i].item.classList.toggle("quiz-right", here && answers[i].right);
        choices[i].item.classList.toggle("quiz-wrong", here && !answers[i].right);
        said.children[i].classList.toggle("quiz-chosen", here);
      });
    }

    // A click on the text of an option counts as well; the button is there for the keyboard.
    choices.forEach(({ item }, i) => item.addEventListener("click", () => choose(i)));
    details.before(said);
    details.hidden = true;
  }

  // All are found before the first is changed: changing one removes its list of reasons.
  const found = [...document.querySelectorAll("details")].map(parts).filter(Boolean);
  // A task for each, so that none holds up what the reader does meanwhile.
  found.forEach((quiz) => setTimeout(upgrade, 0, quiz));
})();
