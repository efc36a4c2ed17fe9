"use strict";

(() => {
  const STEP = 40; // cards that are made at once
  const LISTED = 200; // labels that the list of other labels shows at once
  const LONG = 700; // letters of a text that are shown at first
  const byId = (id) => document.getElementById(id);
  const review = JSON.parse(byId("review").textContent);
  const samples = review.rows.map(
    ([index, row, given, suggested, probability, layer, certainty, flagged, file], place) =>
      ({ place, index, row, given, suggested, probability, layer, certainty, flagged, file }));
  const labelOf = (i) => review.classes[i][0];
  const nameOf = (i) => review.classes[i][1];
  const classOf = new Map(review.classes.map(([label], i) => [label, i]));
  const collator = new Intl.Collator(undefined, { numeric: true });
  const list = byId("samples");
  const cards = new Map(); // by place, those that are made
  const chunks = new Map();
  let decisions = new Map(); // by place: { decision, label }
  const past = []; // places with what was decided there before
  let order = []; // places that are shown
  let made = 0; // how many of them have cards
  let current = null; // place

  // What is kept in the browser ------------------------------------------------------

  function load() {
    try {
      const kept = JSON.parse(localStorage.getItem(review.key) || "[]");
      decisions = new Map(kept.map(([place, decision, label]) => [place, { decision, label }]));
    } catch {
      byId("storage-note").hidden = false;
    }
  }

  function save() {
    const kept = [...decisions].map(([place, { decision, label }]) => [place, decision, label]);
    try {
      localStorage.setItem(review.key, JSON.stringify(kept));
    } catch {
      byId("storage-note").hidden = false;
    }
  }

  // Elements -------------------------------------------------------------------------

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  function percent(share) { // nothing is certain
    const rounded = Math.round(100 * share);
    if (rounded === 100) { return "over 99 %"; }
    return rounded === 0 ? "under 1 %" : `${rounded} %`;
  }

  function contentOf(place) {
    const number = Math.floor(place / review.chunk);
    if (!chunks.has(number)) {
      const script = byId(`contents-${number}`);
      if (!script) { return undefined; }
      chunks.set(number, JSON.parse(script.textContent));
    }
    return chunks.get(number)[place % review.chunk];
  }

  const show = {
    none: () => [],
    image(content, sample) {
      const image = element("img", { alt: `Sample ${sample.index}`, decoding: "async" });
      image.addEventListener("load", () => {
        image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= 64);
      });
      image.src = content;
      return [image];
    },
    audio: (content, sample) => [element("audio", {
      controls: true, preload: "metadata", src: content, ariaLabel: `Sample ${sample.index}`,
    })],
    text(content) {
      const text = element("p", { dir: "auto", textContent: content });
      if (content.length <= LONG) { return [text]; }
      text.textContent = `${content.slice(0, LONG)}…`;
      const all = element("button", { type: "button", textContent: "Show all" });
      all.addEventListener("click", () => { text.textContent = content; all.remove(); });
      return [text, all];
    },
    table(columns, sample) {
      const cell = (text, settings = {}) => element("td", { textContent: text, ...settings });
      const heading = (text) => element("th", { scope: "col", textContent: text });
      // Where the label given is also the one suggested, there is one class to compare with.
      const usual = sample.given === sample.suggested ? ["given"] : ["given", "suggested"];
      const rows = columns.map(([name, value, given, suggested, nearer]) => element("tr", {},
        element("th", { scope: "row", textContent: name }), cell(value),
        ...usual.map((which) => cell(which === "given" ? given : suggested,
          { className: nearer === which ? "nearer" : "" }))));
      const head = element("tr", {}, heading("column"), heading("this row"),
        ...usual.map((which) => heading(`usual in ${nameOf(sample[which])}`)));
      return [element("div", { className: "scroll" }, element("table", {},
        element("thead", {}, head), element("tbody", {}, ...rows)))];
    },
  };

  function fill(card, sample) {
    const content = review.kind === "none" ? null : contentOf(sample.place);
    if (content !== undefined) {
      card.querySelector(".content").replaceChildren(...show[review.kind](content, sample));
    }
    return content !== undefined;
  }

  function cardOf(place) {
    const sample = samples[place];
    const card = byId("card").content.firstElementChild.cloneNode(true);
    const part = (name) => card.querySelector(name);
    const title = sample.row === null ? `Sample ${sample.index}` : `${sample.row}`;
    card.dataset.place = place;
    card.setAttribute("aria-label", title);
    card.classList.toggle("flagged", sample.flagged);
    part("h2").textContent = title;
    part(".likely").textContent = sample.probability === null ? ""
      : `${percent(sample.probability)} likely wrong`;
    part(".given").textContent = nameOf(sample.given);
    part(".suggested").textContent = nameOf(sample.suggested);
    const facts = [
      sample.row === null ? "" : `sample ${sample.index}`,
      sample.file,
      sample.layer === null ? "" : `seen in ${sample.layer}`,
      sample.certainty === null ? "" : `suggestion ${percent(sample.certainty)} sure`,
    ];
    part(".facts").textContent = facts.filter(Boolean).join(" · ");
    part(".choices").setAttribute("aria-label", `Decision on ${title}`);
    part("[data-decision=suggested]").disabled = sample.given === sample.suggested;
    fill(card, sample);
    cards.set(place, card);
    mark(place);
    return card;
  }

  function mark(place) {
    const card = cards.get(place);
    if (!card) { return; }
    const made = decisions.get(place);
    card.dataset.decided = made ? made.decision : "";
    for (const button of card.querySelectorAll("[data-decision]")) {
      button.ariaPressed = String(Boolean(made) && made.decision === button.dataset.decision);
    }
    card.querySelector(".verdict").textContent = verdictOf(made);
  }

  function verdictOf(made) {
    if (!made) { return ""; }
    if (made.decision === "skip") { return "skipped"; }
    const name = nameOf(classOf.get(made.label));
    return made.decision === "keep" ? `keeps ${name}` : `becomes ${name}`;
  }

  // What is shown, in which order ----------------------------------------------------

  const sorting = {
    probability: (a, b) => b.probability - a.probability || a.place - b.place,
    index: (a, b) => a.index - b.index,
    given: (a, b) => collator.compare(nameOf(a.given), nameOf(b.given)) || a.place - b.place,
    suggested: (a, b) =>
      collator.compare(nameOf(a.suggested), nameOf(b.suggested)) || a.place - b.place,
    layer: (a, b) => collator.compare(a.layer ?? "", b.layer ?? "") || a.place - b.place,
  };
  const states = {
    all: () => true,
    open: (sample) => !decisions.has(sample.place),
    decided: (sample) => decisions.has(sample.place),
    flagged: (sample) => sample.flagged,
  };

  function textOf(sample) {
    const parts = [sample.index, sample.row, sample.file, nameOf(sample.given), nameOf(sample.suggested)];
    if (review.kind === "text" || review.kind === "table") {
      parts.push(JSON.stringify(contentOf(sample.place) ?? ""));
    }
    return parts.join("\n").toLocaleLowerCase();
  }

  function arrange() {
    const wanted = byId("search").value.trim().toLocaleLowerCase();
    const [given, suggested] = [byId("given").value, byId("suggested").value];
    const chosen = samples.filter((sample) => states[byId("state").value](sample)
      && (given === "" || sample.given === Number(given))
      && (suggested === "" || sample.suggested === Number(suggested))
      && (wanted === "" || textOf(sample).includes(wanted)));
    order = chosen.sort(sorting[byId("sort").value]).map((sample) => sample.place);
    cards.clear();
    list.replaceChildren();
    made = 0;
    current = null;
    byId("nothing").hidden = order.length > 0;
    more();
    choose(order.find((place) => !decisions.has(place)) ?? order[0] ?? null, false);
  }

  function more() {
    list.append(...order.slice(made, made + STEP).map(cardOf));
    made = Math.min(order.length, made + STEP);
  }

  function choose(place, focus = true) {
    const before = cards.get(current);
    if (before) { before.classList.remove("current"); before.tabIndex = -1; }
    current = place;
    if (place === null) { return; }
    while (!cards.has(place) && made < order.length) { more(); }
    const card = cards.get(place);
    card.classList.add("current");
    card.tabIndex = 0;
    if (focus) {
      card.focus({ preventScroll: true });
      card.scrollIntoView({ block: "nearest" });
    }
  }

  function move(step) {
    const place = order[order.indexOf(current) + step];
    if (place !== undefined) { choose(place); }
  }

  // Decisions ------------------------------------------------------------------------

  function put(place, made) {
    if (made) { decisions.set(place, made); } else { decisions.delete(place); }
    mark(place);
    save();
    tell();
  }

  function decide(place, decision, label, takeBack = false) {
    const before = decisions.get(place);
    const same = before && before.decision === decision && before.label === label;
    if (same && !takeBack) { return; }
    past.push([place, before]);
    put(place, same ? undefined : { decision, label });
    say(`${cards.get(place).getAttribute("aria-label")}: `
      + (verdictOf(decisions.get(place)) || "no decision"));
  }

  function pick(place, decision, takeBack = false) {
    const sample = samples[place];
    if (decision === "other") { askOther(place); return false; }
    if (decision === "suggested" && sample.given === sample.suggested) { return false; }
    const labels = { keep: labelOf(sample.given), suggested: labelOf(sample.suggested), skip: "" };
    decide(place, decision, labels[decision], takeBack);
    return true;
  }

  function undo() {
    const last = past.pop();
    if (!last) { return; }
    const [place, before] = last;
    put(place, before);
    if (order.includes(place)) { choose(place); }
    say("Undone");
  }

  function tell() {
    const counts = { keep: 0, suggested: 0, other: 0, skip: 0 };
    for (const { decision } of decisions.values()) { counts[decision] += 1; }
    const number = (n) => n.toLocaleString("en");
    byId("progress").max = Math.max(1, samples.length);
    byId("progress").value = decisions.size;
    byId("count").textContent = `${number(decisions.size)} of ${number(samples.length)} decided: `
      + `${number(counts.keep)} kept, ${number(counts.suggested + counts.other)} changed, `
      + `${number(counts.skip)} skipped`;
    byId("undo").disabled = past.length === 0;
    byId("download").disabled = decisions.size === 0;
  }

  function say(text) { byId("status").textContent = text; }

  // Another label --------------------------------------------------------------------

  function listLabels() {
    const wanted = byId("other-find").value.trim().toLocaleLowerCase();
    const given = samples[Number(byId("other").dataset.place)].given;
    const found = review.classes.map(([label, name], i) => [i, label, name])
      .filter(([i, , name]) => i !== given && name.toLocaleLowerCase().includes(wanted));
    byId("other-list").replaceChildren(...found.slice(0, LISTED).map(([i, label, name]) =>
      element("option", {
        value: String(i), textContent: label === name ? name : `${name} (${label})`,
      })));
    byId("other-list").selectedIndex = 0;
  }

  function askOther(place) {
    byId("other").dataset.place = place;
    byId("other-find").value = "";
    listLabels();
    byId("other").showModal();
    byId("other-find").focus();
  }

  function useOther(event) {
    event.preventDefault();
    const place = Number(byId("other").dataset.place);
    const chosen = byId("other-list").value;
    if (chosen === "") { return; }
    byId("other").close();
    decide(place, "other", labelOf(Number(chosen)));
    if (current === place) { move(1); }
  }

  // The file -------------------------------------------------------------------------

  function cell(value) {
    let text = String(value);
    // Spreadsheets compute what begins like a formula, and write 007 and 1-2 in their own
    // way. An apostrophe keeps them from it; apply_review takes it off.
    const isKept = String(Number(text)) === text;
    if (!isKept && /^\s*[=+\-@＝＋－＠]|^[\s'\d.]/.test(text)) { text = `'${text}`; }
    return /[",;\t\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function csv() {
    const names = ["row", "file"].filter((name) => samples.some((sample) => sample[name] !== null));
    const columns = ["index", ...names, "given", "suggested", "decision", "label"];
    const rows = samples.filter(({ place }) => decisions.has(place)).map((sample) => {
      const { decision, label } = decisions.get(sample.place);
      return [sample.index, ...names.map((name) => sample[name] ?? ""), labelOf(sample.given),
        labelOf(sample.suggested), decision, label];
    });
    return `\ufeff${[columns, ...rows].map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
  }

  function download() {
    const address = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    element("a", { href: address, download: `${review.name}_decisions.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
    say("The CSV file was saved.");
  }

  // Events ---------------------------------------------------------------------------

  const keys = {
    k: () => { if (pick(current, "keep")) { move(1); } },
    t: () => { if (pick(current, "suggested")) { move(1); } },
    o: () => pick(current, "other"),
    s: () => { if (pick(current, "skip")) { move(1); } },
    ArrowRight: () => move(1),
    ArrowLeft: () => move(-1),
    p() {
      const player = cards.get(current).querySelector("audio");
      if (player) { player[player.paused ? "play" : "pause"](); }
    },
  };

  function onKey(event) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const typing = event.target.closest("input, select, textarea, audio, dialog");
    if (typing || event.altKey || !byId("keys").checked) { return; }
    if (key === "u" && !event.ctrlKey || key === "z" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      undo();
    } else if (keys[key] && current !== null && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      keys[key]();
    }
  }

  function restart() {
    if (!window.confirm("Forget all decisions on this page?")) { return; }
    decisions.clear();
    past.length = 0;
    save();
    tell();
    arrange();
    byId("help").close();
  }

  function connect() {
    list.addEventListener("click", (event) => {
      const card = event.target.closest(".card");
      if (!card) { return; }
      const place = Number(card.dataset.place);
      const button = event.target.closest("[data-decision]");
      if (place !== current) { choose(place, false); }
      if (button) { pick(place, button.dataset.decision, true); } // twice takes it back
    });
    list.addEventListener("focusin", (event) => {
      const card = event.target.closest(".card");
      if (card && Number(card.dataset.place) !== current) { choose(Number(card.dataset.place), false); }
    });
    list.addEventListener("play", (event) => { // one sound at a time
      for (const player of list.querySelectorAll("audio")) {
        if (player !== event.target) { player.pause(); }
      }
    }, true);
    for (const id of ["sort", "state", "given", "suggested"]) {
      byId(id).addEventListener("change", arrange);
    }
    byId("search").addEventListener("input", arrange);
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    byId("filters-button").addEventListener("click", (event) => {
      byId("filters").hidden = !byId("filters").hidden;
      event.currentTarget.ariaExpanded = String(!byId("filters").hidden);
    });
    byId("undo").addEventListener("click", undo);
    byId("download").addEventListener("click", download);
    byId("help-button").addEventListener("click", () => byId("help").showModal());
    byId("help-close").addEventListener("click", () => byId("help").close());
    byId("restart").addEventListener("click", restart);
    byId("other-form").addEventListener("submit", useOther);
    byId("other-find").addEventListener("input", listLabels);
    byId("other-cancel").addEventListener("click", () => byId("other").close());
    byId("other-list").addEventListener("dblclick", useOther);
    document.addEventListener("keydown", onKey);
    document.addEventListener("DOMContentLoaded", () => { // all contents have arrived
      for (const [place, card] of cards) {
        if (!card.querySelector(".content").hasChildNodes()) { fill(card, samples[place]); }
      }
    });
    const end = byId("more");
    const observer = new IntersectionObserver((entries) => {
      if (made === order.length || !entries.some((entry) => entry.isIntersecting)) { return; }
      more();
      observer.unobserve(end); // so that it tells again where the end is still in sight
      observer.observe(end);
    }, { rootMargin: "1500px" });
    observer.observe(end);
  }

  function listClasses(id) {
    const used = [...new Set(samples.map((sample) => sample[id]))];
    used.sort((a, b) => collator.compare(nameOf(a), nameOf(b)));
    byId(id).append(element("option", { value: "", textContent: "all" }),
      ...used.map((i) => element("option", { value: String(i), textContent: nameOf(i) })));
  }

  document.body.classList.add(review.kind);
  byId("summary").textContent = review.summary;
  listClasses("given");
  listClasses("suggested");
  load();
  connect();
  tell();
  arrange();
  if (decisions.size > 0 && current !== null) { cards.get(current).scrollIntoView({ block: "center" }); }
})();
