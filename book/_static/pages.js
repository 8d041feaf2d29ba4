// What the pages need beyond the theme: boxes that scroll sideways can be reached by keyboard,
// menus drop down, answers are open on paper. Part of book.js (see book/_extensions/pages.py).
(() => {
  "use strict";

  // What may be wider than a phone, and what a screen reader calls it. The page comes with these
  // boxes marked as if all of them scrolled (pages.py): those that do not lose the mark here.
  const BOXES = [
    [".pst-scrollable-table-container", "Table, scrolls sideways"],
    [".math.display", "Formula, scrolls sideways"],
    [".bd-article pre", "Code, scrolls sideways"],
    [".cell_output .output", "Output, scrolls"],
    [".handbook-figure", "Figure, scrolls sideways"],
  ];

  const scrolls = (box) =>
    (box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1) &&
    getComputedStyle(box).overflowX !== "visible";

  // Measure all, then change all: a change between two measurements lays out the page anew.
  function mark(boxes, names) {
    const measured = boxes.map((box) => [box, scrolls(box)]);
    for (const [box, needed] of measured) {
      if (needed === "scrolls" in box.dataset || box === document.activeElement) continue;
      const attributes = { tabindex: "0", "aria-label": names.get(box), "data-scrolls": "" };
      // A figure is a group already.
      if (box.localName !== "figure") attributes.role = "group";
      for (const [attribute, value] of Object.entries(attributes)) {
        if (needed) box.setAttribute(attribute, value);
        else box.removeAttribute(attribute);
      }
    }
  }

  function watch() {
    const names = new Map();
    for (const [selector, name] of BOXES) {
      for (const box of document.querySelectorAll(selector)) names.set(box, name);
    }
    // Runs for a box when it is first laid out, which for a section out of sight is when the
    // reader comes near it (handbook.css), and again when it changes its size.
    const laidOut = new Set();
    const observer = new ResizeObserver((entries) => {
      const boxes = entries.map((entry) => entry.target);
      boxes.forEach((box) => laidOut.add(box));
      mark(boxes, names);
    });
    for (const box of names.keys()) observer.observe(box);
    // A formula may grow inside its box when its font arrives.
    document.fonts.addEventListener("loadingdone", () => mark([...laidOut], names));
  }

  // Menus: a click or Enter opens one; Escape, a click elsewhere, or leaving it closes it.
  function menus() {
    const buttons = [...document.querySelectorAll('[data-bs-toggle="dropdown"]')];
    const menuOf = (button) => button.parentElement.querySelector(".dropdown-menu");
    const open = (button, isOpen) => {
      button.setAttribute("aria-expanded", String(isOpen));
      menuOf(button).classList.toggle("show", isOpen);
    };
    const isOpen = (button) => button.getAttribute("aria-expanded") === "true";
    for (const button of buttons) {
      const menu = button.parentElement;
      button.addEventListener("click", () => open(button, !isOpen(button)));
      menu.addEventListener("focusout", (event) => {
        if (event.relatedTarget && !menu.contains(event.relatedTarget)) open(button, false);
      });
      menu.addEventListener("keydown", (event) => {
        if (event.key !== "Escape" || !isOpen(button)) return;
        open(button, false);
        button.focus();
      });
    }
    document.addEventListener("click", (event) => {
      for (const button of buttons) {
        if (!button.parentElement.contains(event.target)) open(button, false);
      }
    });
  }

  // The button that leads back to the top comes when the reader turns back.
  function backToTop() {
    const button = document.getElementById("pst-back-to-top");
    if (!button) return;
    let before = scrollY;
    const turned = () => {
      button.style.display = scrollY < before && scrollY > innerHeight ? "block" : "none";
      before = scrollY;
    };
    addEventListener("scroll", turned, { passive: true });
    button.addEventListener("click", () => scrollTo(0, 0));
  }

  // All answers and solutions are open on paper.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll(".bd-article details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
    opened = [];
  });

  // A task for each, so that none holds up what the reader does meanwhile.
  [menus, backToTop, watch].forEach((part) => setTimeout(part));
})();
