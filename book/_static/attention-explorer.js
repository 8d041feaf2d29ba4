// Puts controls around the figure that helpers/explorer.py writes: sentence, layer, head, word.
// Without this script the figure stays as it is. Nothing is fetched, nothing is stored.
(() => {
  "use strict";

  const HTML = "http://www.w3.org/1999/xhtml";
  const SVG = "http://www.w3.org/2000/svg";
  const CELL = 20;
  const LETTER = 8; // width of a letter of the labels, about
  const NAMED = 3; // how many of the words that are looked at the summary names
  let made = 0;

  /** A new element with attributes and children; texts become text, never markup. */
  const maker = (language) => (name, attributes = {}, ...children) => {
    const node = document.createElementNS(language, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const element = maker(HTML);
  const drawn = maker(SVG);
  const figures = (hundredths) => (hundredths / 100).toFixed(2);

  /** Name a token; one that occurs again says which of them it is. */
  function named(tokens, place) {
    const same = tokens.map((token, i) => (token === tokens[place] ? i : -1)).filter((i) => i >= 0);
    const which = same.length > 1 ? ` (${same.indexOf(place) + 1} of ${same.length})` : "";
    return `“${tokens[place]}”${which}`;
  }

  /** A group of radio buttons, so that the arrow keys move in it. */
  function choices(legend, kind, labels, onChange) {
    const group = `attention-explorer-${++made}`;
    const box = element("fieldset", { class: kind });
    box.append(element("legend", {}, legend));
    const inputs = labels.map((parts, i) => {
      const input = element("input", { type: "radio", name: group, value: i, autocomplete: "off" });
      input.addEventListener("change", () => onChange(i));
      const face = element("span", { class: "attention-explorer-face" }, ...parts);
      box.append(element("label", {}, input, face));
      return input;
    });
    return { box, inputs };
  }

  /** The whole head: a square for each weight, a frame around the row of the chosen word. */
  function heatMap(tokens, weights, chosen, label) {
    const count = tokens.length;
    const room = LETTER * Math.max(...tokens.map((token) => token.length)) + 12;
    const side = room + count * CELL + 2;
    const viewBox = `0 0 ${side} ${side}`;
    const picture = drawn("svg", { viewBox, role: "img", "aria-label": label });
    const box = (kind, row, column, width, more) => {
      const [x, y] = [room + column * CELL, room + row * CELL];
      return drawn("rect", { class: kind, x, y, width, height: CELL, ...more });
    };
    tokens.forEach((token, i) => {
      const middle = room + (i + 0.5) * CELL + 4;
      const bold = i === chosen ? { "font-weight": "bold" } : {};
      picture.append(
        drawn("text", { x: room - 5, y: middle, "text-anchor": "end", ...bold }, token),
        drawn("text", { x: 0, y: 0, transform: `translate(${middle} ${room - 5}) rotate(-90)` }, token),
      );
    });
    weights.forEach((weight, i) => {
      const [row, column] = [Math.floor(i / count), i % count];
      const opacity = { "fill-opacity": weight / 100 };
      if (weight) picture.append(box("attention-explorer-weight", row, column, CELL, opacity));
    });
    picture.append(box("attention-explorer-row", chosen, 0, count * CELL));
    return picture;
  }

  function explore(root) {
    const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
    // Bytes, one for each weight: its hundredths, in the order layer, head, query, key.
    const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    const read = data.sentences.map((one) => ({ ...one, weights: bytes(one.weights) }));
    const now = { sentence: 0, ...data.start };
    const controls = element("div", {
      class: "attention-explorer-controls",
      role: "group",
      "aria-label": "Attention explorer",
    });

    const select = element("select", { autocomplete: "off" });
    read.forEach((one, i) => select.append(element("option", { value: i }, one.text)));
    /** Choices of which one changes what is shown now, under `key`. */
    const choose = (legend, kind, labels, key) =>
      choices(legend, kind, labels, (i) => {
        now[key] = i;
        show();
      });
    const numbers = (count) => [...Array(count).keys()].map((i) => [String(i)]);
    const layers = choose("Layer", "attention-explorer-numbers", numbers(data.layers), "layer");
    const heads = choose("Head", "attention-explorer-numbers", numbers(data.heads), "head");
    const words = element("div");
    const summary = element("p", { class: "attention-explorer-summary", role: "status" });
    const map = element("div", { class: "attention-explorer-map" });
    let word;

    function newSentence() {
      const { tokens } = read[now.sentence];
      const faces = tokens.map((token) => [
        element("span", {}, token),
        " ",
        element("span", { class: "attention-explorer-number" }),
      ]);
      word = choose("Word that looks", "attention-explorer-words", faces, "word");
      words.replaceChildren(word.box);
      show();
    }

    function show() {
      const { tokens, weights } = read[now.sentence];
      const count = tokens.length;
      const begin = (now.layer * data.heads + now.head) * count * count;
      const head = [...weights.subarray(begin, begin + count * count)];
      const row = head.slice(now.word * count, (now.word + 1) * count);
      layers.inputs[now.layer].checked = true;
      heads.inputs[now.head].checked = true;
      word.inputs[now.word].checked = true;
      word.box.querySelectorAll(".attention-explorer-face").forEach((face, i) => {
        face.style.setProperty("--weight", row[i] / 100);
        face.querySelector(".attention-explorer-number").textContent = figures(row[i]);
      });
      const where = `Layer ${now.layer}, head ${now.head}`;
      const most = row.map((weight, i) => [weight, i]).filter(([weight]) => weight);
      most.sort(([a], [b]) => b - a);
      const looks = most.slice(0, NAMED).map(([weight, i]) => `${named(tokens, i)} ${figures(weight)}`);
      summary.textContent = `${where}: ${named(tokens, now.word)} looks at ${looks.join(", ")}.`;
      map.replaceChildren(
        heatMap(tokens, head, now.word, `${where}, all words: a row for each word that looks.`),
      );
    }

    select.addEventListener("change", () => {
      const before = read[now.sentence].tokens[now.word];
      now.sentence = Number(select.value);
      const same = read[now.sentence].tokens.indexOf(before);
      now.word = same >= 0 ? same : 1;
      newSentence();
    });
    const sentence = element("label", { class: "attention-explorer-sentence" }, "Sentence", select);
    controls.append(sentence, layers.box, heads.box, words, summary, map);
    newSentence();
    root.append(controls);
    root.querySelector(".attention-explorer-figure").remove();
  }

  // Made when the reader comes near, so that a page does not wait for it.
  const begin = (entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      near.unobserve(target);
      explore(target);
    }
  };
  const near = new IntersectionObserver(begin, { rootMargin: "100%" });
  document.querySelectorAll(".attention-explorer").forEach((root) => near.observe(root));
})();
