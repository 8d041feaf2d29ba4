// What the gates ask a page, as functions of one object. gates.py evaluates this file in the
// page and calls one of them. Each answers with plain values; none needs the page's own scripts.
(() => {
  const CODE = "code, pre, script, style, noscript, textarea, template";
  const TYPESET = ".katex, mjx-container, math";
  const BLOCK =
    "p, li, td, th, dd, dt, h1, h2, h3, h4, h5, h6, figcaption, summary, caption, blockquote, div, section, body";
  const RAW_FORMULA = [
    /\\(?:[()[\]]|[A-Za-z]{2,})/,
    /\$\$/,
    // Pandoc's rule for a formula between dollars, so that "$5 and $6" is money.
    /\$(?=\S)[^$\n]{0,120}?\S\$(?!\d)/,
  ];
  const RAW_MARKDOWN = [
    /\|\s*:?-{3,}:?\s*\|/, // a table's second line
    /(?<![\w*])\*\*(?=[^\s*])[^*\n]*[^\s*]\*\*(?!\w)/,
    /\]\((?:https?:|#|\.\.?\/)/,
    /^\s*(?:#{2,6} |```)/m, // a single # begins a comment of the code that a cell shows
  ];

  const isShown = (element) => element.checkVisibility({ visibilityProperty: true });
  const clip = (text, length = 60) => text.replace(/\s+/g, " ").trim().slice(0, length);
  const isEmpty = (box) => box.width < 1 || box.height < 1;

  function name(element) {
    const id = element.id ? `#${element.id}` : "";
    const classes = [...element.classList].map((each) => `.${each}`).join("");
    const label = element.getAttribute("aria-label") || element.getAttribute("title");
    return `<${element.localName}${id}${classes}> ${clip(label || element.textContent || "")}`;
  }

  function outermost(selector) {
    return [...document.querySelectorAll(selector)].filter(
      (element) => !element.parentElement.closest(selector),
    );
  }

  function textBlocks() {
    const blocks = new Map();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const parent = walker.currentNode.parentElement;
      if (parent.closest(`${CODE}, ${TYPESET}, svg`) || !isShown(parent)) continue;
      const block = parent.closest(BLOCK);
      blocks.set(block, (blocks.get(block) || "") + walker.currentNode.data);
    }
    return blocks;
  }

  function formulas() {
    const faults = [];
    for (const [block, text] of textBlocks()) {
      const found = RAW_FORMULA.map((pattern) => text.match(pattern)).find(Boolean);
      if (found) faults.push(`raw formula ${found[0].slice(0, 80)} in ${name(block)}`);
    }
    for (const element of document.querySelectorAll(".math")) {
      const isTypeset = element.closest(CODE) || element.querySelector(`.math, ${TYPESET}`);
      if (!isTypeset && isShown(element)) faults.push(`formula left as it was: ${name(element)}`);
    }
    const typeset = outermost(TYPESET).filter((element) => isShown(element.parentElement));
    for (const element of typeset) {
      const drawn = element.querySelector(".katex-html") || element;
      if (isEmpty(drawn.getBoundingClientRect())) faults.push(`formula of no size: ${name(element)}`);
    }
    return { count: typeset.length, faults };
  }

  // Markdown that nobody turned into HTML, in text and in what cells show.
  function markup() {
    const shown = [...document.querySelectorAll(".cell_output pre")].filter(isShown);
    return [...textBlocks(), ...shown.map((block) => [block, block.textContent])].flatMap(
      ([block, text]) => {
        const found = RAW_MARKDOWN.map((pattern) => text.match(pattern)).find(Boolean);
        return found ? [`raw Markdown ${clip(found[0])} in ${name(block)}`] : [];
      },
    );
  }

  // Images and drawings that say something: not the icons of links and buttons.
  function pictures() {
    return [...document.querySelectorAll("img, svg, canvas, video, object, embed")].filter(
      (element) =>
        !element.parentElement.closest("svg") &&
        !element.closest("[aria-hidden=true]") &&
        !element.closest(`button, .dropdown-menu, ${TYPESET}`) &&
        !(element.localName === "svg" && element.closest("a")),
    );
  }

  function figures() {
    const faults = [];
    const all = pictures();
    for (const element of all) {
      if (!isShown(element) || isEmpty(element.getBoundingClientRect())) {
        faults.push(`picture that cannot be seen: ${name(element)}`);
      }
      for (const use of element.querySelectorAll("use")) {
        const target = use.getAttribute("href") || use.getAttribute("xlink:href") || "";
        if (target.startsWith("#") && !document.getElementById(target.slice(1))) {
          faults.push(`drawing that lacks its part ${target}: ${name(element)}`);
        }
      }
    }
    const inContent = all.filter((element) => element.closest("main, article"));
    return { count: inContent.length, faults };
  }

  // The colours of every drawing in the content: what is painted in the text's colour must change
  // with the theme.
  function colours() {
    return pictures()
      .filter((element) => element.localName === "svg" && element.closest("main, article"))
      .map((element) => {
        const painted = new Set();
        for (const part of element.querySelectorAll("*")) {
          const style = getComputedStyle(part);
          painted.add(style.fill).add(style.stroke);
        }
        return { name: name(element), painted: [...painted].sort() };
      });
  }

  function* around(element) {
    for (let each = element.parentElement; each && each !== document.body; each = each.parentElement) {
      yield each;
    }
  }

  // What sticks out of a page so that it scrolls sideways, the deepest elements only.
  function width(limit) {
    const widest = Math.max(document.documentElement.scrollWidth, document.body.scrollWidth);
    // How far an element or the text in it goes. What is fixed grows with the page.
    const sticksOut = (element) => {
      const { position, overflowX } = getComputedStyle(element);
      const { left, right } = element.getBoundingClientRect();
      const reach = overflowX === "visible" ? Math.max(right, left + element.scrollWidth) : right;
      return isShown(element) && position !== "fixed" && reach > limit + 1;
    };
    const isHeld = (element) =>
      [...around(element)].some((each) => getComputedStyle(each).overflowX !== "visible");
    const out = [...document.body.querySelectorAll("*")].filter(
      (element) => widest > limit && sticksOut(element) && !isHeld(element),
    );
    const deepest = out.filter((element) => !out.some((other) => other !== element && element.contains(other)));
    return { width: widest, culprits: deepest.slice(0, 8).map(name) };
  }

  // Pictures, tables, formulas and code of which a part can never be seen: an element around
  // them cuts them off, and nothing in between scrolls.
  function cut() {
    const faults = [];
    const wide = document.querySelectorAll("main table, main pre");
    for (const element of [...pictures(), ...wide, ...outermost(TYPESET)]) {
      const { left, right, width } = element.getBoundingClientRect();
      if (!isShown(element) || width < 2) continue;
      for (const each of around(element)) {
        const { overflowX } = getComputedStyle(each);
        if (["auto", "scroll"].includes(overflowX)) break;
        const box = each.getBoundingClientRect();
        if (overflowX !== "visible" && (right > box.right + 2 || left < box.left - 2)) {
          faults.push(`cut off by ${each.localName}: ${name(element)}`);
          break;
        }
      }
    }
    return faults;
  }

  function openDetails() {
    document.querySelectorAll("details").forEach((element) => (element.open = true));
  }

  // All that a page shows when its answers and solutions are unfolded.
  function unfolded() {
    openDetails();
    const text = clip([...textBlocks().values()].join(" "), 1e6);
    return { text, formulas: formulas(), markup: markup(), figures: figures() };
  }

  // Nothing scrolls on paper: what is wider than its box is lost, unless it shows beyond it.
  function printed(controls) {
    const wide = [...document.querySelectorAll("main pre, main table")].filter(
      (element) =>
        isShown(element) &&
        [element, element.parentElement].some(
          (box) =>
            getComputedStyle(box).overflowX !== "visible" && box.scrollWidth > box.clientWidth + 2,
        ),
    );
    const pen = document.createElement("canvas").getContext("2d");
    pen.fillStyle = getComputedStyle(document.querySelector("p") || document.body).color;
    pen.fillRect(0, 0, 1, 1);
    return {
      cut: [...wide.map((element) => `part is cut off: ${name(element)}`), ...cut()],
      controls: [...document.querySelectorAll(controls)].filter(isShown).length,
      ink: [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)],
    };
  }

  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

  // The theme that the page shows after a while, at once if it is the one that the system prefers.
  async function theme(preferred) {
    const shown = () => document.documentElement.dataset.theme || "";
    for (let wait = 0; wait < 60 && shown() !== preferred; wait++) await frame();
    return shown();
  }

  // What waits until it is scrolled into sight gets its chance, as with a reader.
  async function scrollThrough() {
    for (let top = 0; top < document.documentElement.scrollHeight; top += innerHeight) {
      scrollTo({ top, behavior: "instant" });
      await frame();
    }
    scrollTo({ top: 0, behavior: "instant" });
    await frame();
    await document.fonts.ready;
  }

  // Lay out the whole page at once. Parts out of sight may be left out of the layout
  // (content-visibility); nobody sees them without, so they are asked about as they are in sight.
  function layOut() {
    const style = document.createElement("style");
    style.textContent = "* { content-visibility: visible !important; }";
    document.head.append(style);
  }

  // Axe takes three times as long when it asks each of thousands of equal parts. A formula is one
  // text, unless a part of it has a colour of its own; and within code, each kind of token stays
  // one part once for each kind of block, wherever that block stands.
  function eachLookOnce() {
    for (const formula of document.querySelectorAll(".katex-html")) {
      if (!formula.querySelector("[style*=color]")) formula.textContent = formula.textContent;
    }
    const seen = new Set();
    const again = [...document.querySelectorAll("pre span")].filter((token) => {
      if (token.closest("a") || token.querySelector("a, [id]")) return false;
      const { color, backgroundColor, fontWeight, fontStyle } = getComputedStyle(token);
      const block = [...around(token)].map((each) => each.className);
      const look = [token.className, color, backgroundColor, fontWeight, fontStyle, ...block].join("; ");
      return seen.has(look) || !seen.add(look);
    });
    for (const token of again) token.replaceWith(...token.childNodes);
  }

  // --- the keyboard ----------------------------------------------------------------------------

  const FOCUSABLE =
    "a[href], button:not(:disabled), input:not([type=hidden]):not(:disabled), select, textarea, " +
    "details > summary:first-of-type, iframe, [tabindex]:not([tabindex^='-'])";

  // How an element looks, and what stands closely around it: a label or a list entry may carry
  // the sign of the focus.
  function looks(element) {
    return JSON.stringify(
      [element, element.parentElement].map((each) => {
        const style = getComputedStyle(each);
        return [
          style.outlineStyle === "none" ? "none" : `${style.outlineStyle} ${style.outlineWidth}`,
          style.boxShadow,
          style.backgroundColor,
          style.borderTopColor + style.borderTopWidth,
          style.textDecorationLine + style.textDecorationThickness,
        ];
      }),
    );
  }

  // The contents unfold the section in sight some frames after a scroll; wait until they are done.
  async function atRest() {
    const links = () => [...document.querySelectorAll("nav a")].filter(isShown).length;
    for (let same = 0, before = links(), wait = 0; same < 5 && wait < 60; wait++) {
      await frame();
      const now = links();
      same = now === before ? same + 1 : 0;
      before = now;
    }
  }

  async function watchKeyboard() {
    await atRest();
    const still = document.createElement("style");
    still.textContent = "*, *::before, *::after { transition: none !important; animation: none !important; }";
    document.head.append(still);
    const wanted = [...document.querySelectorAll(FOCUSABLE)].filter(
      (element) =>
        isShown(element) &&
        !element.closest("[inert]") &&
        element.tabIndex >= 0 &&
        !(element.type === "radio" && !element.checked),
    );
    const before = new Map(wanted.map((element) => [element, looks(element)]));
    const state = { wanted, before, reached: new Set(), order: [], faults: new Set() };
    window.handbookKeyboard = state;
    document.addEventListener("focusin", ({ target }) => {
      if (state.reached.has(target)) return;
      state.reached.add(target);
      state.order.push(target);
      const box = target.getBoundingClientRect();
      const isOutside =
        box.bottom < 0 || box.top > innerHeight || box.right < 0 || box.left > innerWidth;
      if (!isShown(target) || isEmpty(box) || isOutside) {
        state.faults.add(`focus on something out of sight: ${name(target)}`);
      } else if (before.get(target) === looks(target)) {
        state.faults.add(`focus does not show: ${name(target)}`);
      }
    });
    return wanted.length;
  }

  function keyboard() {
    const { wanted, reached, order, faults } = window.handbookKeyboard;
    const missed = wanted.filter((element) => !reached.has(element) && isShown(element));
    return {
      first: order.length ? name(order[0]) : "",
      missed: missed.map(name),
      faults: [...faults],
    };
  }

  return {
    unfolded, colours, width, cut, printed, openDetails, scrollThrough, layOut, theme,
    eachLookOnce, watchKeyboard, keyboard,
  };
})()
