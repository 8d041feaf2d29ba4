// Adds a field to type into to the boxes that helpers/tokenizer_explorer.py writes. Without this
// script the boxes of one text stay as they are. Nothing is stored. It reads text as BERT's uncased
// tokenizer does: BertNormalizer, BertPreTokenizer and WordPiece of the library `tokenizers`, whose
// tables of characters come with the vocabulary.
(() => {
  "use strict";

  const PAUSE = 500; // milliseconds without typing, after which the result is said aloud

  /** What the page holds, or what it has in a file of its own, which is a script. */
  function packed(holder) {
    const address = holder.dataset.source;
    if (!address) return holder.textContent;
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.onload = () => resolve(globalThis.packed);
      script.onerror = reject;
      script.src = address;
      document.head.append(script);
    });
  }

  /** The vocabulary and the tables of characters: compressed JSON. */
  async function unpacked(holder) {
    const base64 = await packed(holder);
    const bytes = Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const data = JSON.parse(await new Response(stream).text());
    return {
      ...data,
      ids: new Map(data.pieces.split("\n").map((piece, id) => [piece, id])),
      added: new RegExp(data.added),
      dropped: new RegExp(data.dropped, "gu"),
      alone: new RegExp(data.alone, "gu"),
    };
  }

  /** Clean, without accents, in lower case, cut at spaces and around punctuation and Chinese. */
  function words(text, data) {
    const plain = text.normalize("NFD").replace(data.dropped, "");
    // Letter by letter, as the library does it: at the end of a word, JavaScript writes Σ as ς.
    const lower = Array.from(plain, (letter) => letter.toLowerCase()).join("");
    return lower.replace(data.alone, " $& ").split(/\p{White_Space}+/u).filter(Boolean);
  }

  /** The longest piece that the word begins with, and so on; one gap, and the word is unknown. */
  function pieces(word, data) {
    if (Array.from(word).length > data.longestWord) return [data.unknown];
    const found = [];
    for (let begin = 0, end; begin < word.length; begin = end) {
      const piece = () => (begin ? data.prefix : "") + word.slice(begin, end);
      for (end = word.length; end > begin && !data.ids.has(piece()); ) end -= 1;
      if (end === begin) return [data.unknown];
      found.push(piece());
    }
    return found;
  }

  function tokenized(text, data) {
    // Special tokens are found first, in the text as it was typed: every other part is one.
    const inside = text.split(data.added).flatMap((part, i) =>
      i % 2 ? [part] : words(part, data).flatMap((word) => pieces(word, data)),
    );
    return [data.first, ...inside, data.last];
  }

  /** What the boxes show, in a sentence. */
  function summary(tokens, isCut, data) {
    const unknown = tokens.filter((token) => token === data.unknown).length;
    const cut = isCut ? `Only the first ${data.longestText} characters are read. ` : "";
    return `${cut}${tokens.length} tokens, ${unknown || "none"} of them ${data.unknown}.`;
  }

  function explore(root) {
    const list = root.querySelector("ol");
    const box = list.firstElementChild;
    const status = root.querySelector("p");
    const holder = root.querySelector("script");
    let data; // a promise, once the field has been entered
    let pause;

    const field = document.createElement("textarea");
    const value = root.dataset.text;
    Object.assign(field, { rows: 3, value, autocomplete: "off", spellcheck: false });
    const label = document.createElement("label");
    label.className = "attention-explorer-sentence";
    label.append("Text to cut into tokens", field);

    /** A box of a token and its id; what was typed becomes text, never markup. */
    function boxOf(token, { ids, unknown }) {
      const made = box.cloneNode(true);
      made.style.borderStyle = token === unknown ? "dashed" : "solid";
      made.firstElementChild.textContent = token;
      made.lastElementChild.textContent = ids.get(token);
      return made;
    }

    function vocabulary() {
      data ??= unpacked(holder).catch(() => {
        data = undefined; // the next letter asks again
        status.textContent = "The vocabulary could not be loaded.";
      });
      return data;
    }

    async function show() {
      const known = await vocabulary();
      if (!known) return;
      const letters = Array.from(field.value);
      const text = letters.slice(0, known.longestText).join("");
      const tokens = tokenized(text, known);
      list.replaceChildren(...tokens.map((token) => boxOf(token, known)));
      status.textContent = "…"; // what stood there is no longer true
      clearTimeout(pause);
      pause = setTimeout(() => {
        status.textContent = summary(tokens, letters.length > known.longestText, known);
      }, PAUSE);
    }

    field.addEventListener("focus", vocabulary);
    field.addEventListener("input", show);
    status.setAttribute("role", "status");
    status.querySelector("span").remove(); // what the field shows by itself
    root.prepend(label);
  }

  // Older browsers keep the boxes as they are.
  if ("DecompressionStream" in window) {
    document.querySelectorAll(".tokenizer-explorer").forEach(explore);
  }
})();
