// Every answer: filters, the list, two variants against each other, outcomes by what was asked.
// Catalog and model text goes into the page as text nodes and attribute values only.
(async () => {
  const PAGE = 20, DIFFERING = 8, ROWS = 25;
  const $ = id => document.getElementById(id);
  if (!$("answer-data")) return;
  const unpack = async text => {
    const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  };
  let data;
  try { data = await unpack($("answer-data").textContent.trim()); } catch (error) {
    $("shown").textContent = `This browser cannot unpack the answers (${error}); answered.parquet beside this file has them.`;
    return;
  }
  const { questions, answers, values, variants, texts } = data;
  const total = questions.id.length, all = [...Array(total).keys()];
  const words = name => (name ?? "–").replaceAll("_", " ");
  const outcome = (v, i) => values.outcome[answers[v].outcome[i]];
  const isRight = name => data.right.includes(name), isWrong = name => data.wrong.includes(name);
  const kind = name => isRight(name) ? "right" : "wrong";
  const text = number => number === undefined || number < 0 ? null : texts[number];
  const hasTexts = i => i < questions.gold.length;

  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "click") node.addEventListener("click", value);
      else if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.filter(child => child !== null && child !== undefined));
    return node;
  };
  const fill = (select, names, labels = names, first = null) => {
    if (first !== null) select.append(make("option", { value: "" }, first));
    names.forEach((name, i) => select.append(make("option", { value: name }, labels[i])));
  };
  const dot = v => { const node = make("span", { class: "dot" }); node.style.background = variants[v].colour; return node; };
  const badge = (name, style = "") => make("span", { class: `badge ${style}` }, words(name));

  // One question, opened.
  const promptText = (message) => message[1].map(text).join("\n");
  const block = (label, content) => make("div", { class: "block" }, make("h4", {}, label), content);
  const pre = content => make("pre", { dir: "auto" }, content);
  const promptBlock = (i, which, grounding, title) => {
    const prompt = questions.prompts[i][which];
    const who = variants.filter(v => v.grounding === grounding).map(v => v.name);
    if (!prompt || !who.length) return null;
    const parts = prompt.map(message => block(message[0], pre(promptText(message))));
    return make("details", { class: "prompt" }, make("summary", {}, `${title}: ${who.join(", ")}`), ...parts);
  };
  const recordsBlock = i => {
    const prompt = questions.prompts[i][1], found = questions.found[i] ?? [];
    const whole = prompt ? promptText(prompt[prompt.length - 1]) : "";
    const records = whole.match(/<record>[\s\S]*?<\/record>/g) ?? [];
    const own = id => id === questions.product[i] ? badge("the product asked about", "right") : null;
    const list = records.length === found.length || !found.length
      ? records.map((record, n) => make("li", {}, found[n] ? make("code", {}, found[n]) : null, " ", own(found[n]), pre(record)))
      : [...found.map(id => make("li", {}, make("code", {}, id), " ", own(id))), ...records.map(record => make("li", {}, pre(record)))];
    const note = records.length ? `${records.length} in the grounded prompt` : found.length ? "found, but in no prompt: none has the name that was asked for" : "none";
    return make("details", { class: "prompt" }, make("summary", {}, `Retrieved records: ${note}`), make("ul", { class: "records" }, ...list));
  };
  const answerRow = (v, i) => {
    const own = answers[v], name = outcome(v, i), facts = [];
    if (own.error_class[i] >= 0) facts.push(words(values.error_class[own.error_class[i]]));
    if (own.sem_score?.[i] != null) facts.push(`SemScore ${own.sem_score[i].toFixed(2)}`);
    if (own.truthfulness?.[i] != null) facts.push(`truthfulness ${own.truthfulness[i]}`);
    if (own.tokens[i] != null) facts.push(`${own.tokens[i]} tokens`);
    if (own.finish_reason[i] >= 0 && values.finish_reason[own.finish_reason[i]] !== "stop") facts.push(`ended by ${values.finish_reason[own.finish_reason[i]]}`);
    const said = text(own.text[i]);
    return make("tr", {}, make("td", { class: "name" }, dot(v), variants[v].name),
      make("td", {}, badge(name, kind(name)), make("small", {}, facts.join(", "))),
      make("td", { class: "answer", dir: "auto" }, said ? said : "(no answer)"));
  };
  const opened = i => {
    const where = ["department", "category", "subcategory"].map(level => values[level][questions[level][i]]).filter(Boolean).join(" › ");
    const attribute = values.asked_attribute[questions.asked_attribute[i]];
    const facts = [words(values.intent[questions.intent[i]]), where, attribute ? `asked for: ${attribute}` : null].filter(Boolean).join(" · ");
    const head = make("p", { class: "note facts" }, facts, " · ", make("a", { href: `#question=${encodeURIComponent(questions.id[i])}` }, `question ${questions.id[i]}`));
    if (!hasTexts(i)) {
      const outcomes = variants.map((v, n) => make("li", {}, dot(n), v.name, " ", badge(outcome(n, i), kind(outcome(n, i)))));
      return [head, make("p", { class: "note facts" }, "Its texts are left out of this file, for its size; answered.parquet beside it has them."), make("ul", { class: "plain" }, ...outcomes)];
    }
    const evidence = questions.evidence[i];
    const told = [text(evidence.value) ? `value: ${text(evidence.value)}` : null,
      evidence.attributes.length ? `attributes: ${evidence.attributes.map(text).join(", ")}` : null,
      evidence.products.length ? `products: ${evidence.products.join(", ")}` : null].filter(Boolean).join(" · ");
    return [head,
      make("div", { class: "gold" }, make("span", { class: "soft" }, "Expected: "), make("bdi", { dir: "auto" }, text(questions.gold[i]) ?? "–"),
        told ? make("small", {}, `Evidence · ${told}`) : null),
      make("table", { class: "answers" }, make("thead", {}, make("tr", {}, ...["Variant", "Outcome", "Answer"].map(name => make("th", {}, name)))),
        make("tbody", {}, ...variants.map((_, v) => v).reverse().map(v => answerRow(v, i)))),
      recordsBlock(i), promptBlock(i, 1, "retrieved", "Prompt with records"), promptBlock(i, 0, "none", "Prompt without records")];
  };
  const card = i => {
    const right = variants.filter((_, v) => isRight(outcome(v, i))).length;
    const node = make("details", { class: "card question" }, make("summary", {}, make("bdi", { dir: "auto", class: "asked" }, text(questions.text[i])), " ",
      badge(values.subset[questions.subset[i]]), " ", badge(`${right} of ${variants.length} right`)));
    node.addEventListener("toggle", () => { if (node.open && node.childElementCount === 1) node.append(...opened(i).filter(Boolean)); });
    return node;
  };

  // The list and its filters.
  let cell = null, only = null, page = 0, found = all, sorted = null;
  const coded = { subset: "subset", intent: "intent", category: "category", attribute: "asked_attribute" };
  const haystacks = [];
  const haystack = i => haystacks[i] ??= [questions.id[i], text(questions.text[i]), text(questions.gold[i]), ...answers.map(own => text(own.text[i]))].join("\n").toLowerCase();
  const agreement = { differ: (right) => right > 0 && right < variants.length, right: right => right === variants.length, wrong: right => right === 0 };
  const keeps = () => {
    const tests = [], chosen = id => $(id).value;
    for (const [id, name] of Object.entries(coded)) if (chosen(id)) {
      const code = values[name].indexOf(chosen(id));
      tests.push(i => questions[name][i] === code);
    }
    const those = chosen("variant") ? [Number(chosen("variant"))] : variants.map((_, v) => v);
    for (const [id, name] of [["outcome", "outcome"], ["error", "error_class"]]) if (chosen(id)) {
      const code = values[name].indexOf(chosen(id));
      tests.push(i => those.some(v => answers[v][name][i] === code));
    }
    if (chosen("agreement")) tests.push(i => agreement[chosen("agreement")](variants.filter((_, v) => isRight(outcome(v, i))).length));
    if (cell) tests.push(cell.test);
    if (only !== null) tests.push(i => questions.id[i] === only);
    const sought = chosen("filter").toLowerCase().split(/\s+/).filter(Boolean);
    if (sought.length) tests.push(i => sought.every(word => haystack(i).includes(word)));
    return i => tests.every(test => test(i));
  };
  const show = () => {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    $("questions").replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(card));
    $("shown").textContent = `${found.length.toLocaleString("en")} of ${total.toLocaleString("en")} questions`;
    $("page").textContent = `page ${page + 1} of ${pages}`;
    $("previous").disabled = page === 0; $("next").disabled = page >= pages - 1;
    $("chip").hidden = !cell && only === null;
    $("chip").textContent = `${cell ? cell.label : `question ${only}`}  ✕`;
  };
  const apply = () => { found = (sorted ?? all).filter(keeps()); page = 0; show(); };
  const narrow = (label, test, order = null) => { cell = { label, test }; only = null; sorted = order; apply(); $("answers").scrollIntoView(); $("chip").focus(); };
  const clear = () => {
    cell = only = sorted = null;
    [...Object.keys(coded), "variant", "outcome", "error", "agreement", "filter"].forEach(id => { $(id).value = ""; });
    if (location.hash) history.replaceState(null, "", " ");
    apply();
  };
  const fromLink = () => {
    const match = /^#question=(.+)$/.exec(location.hash);
    if (!match) return;
    let id = match[1];
    try { id = decodeURIComponent(id); } catch { /* shown as it is: no question has it */ }
    clear(); only = id; apply();
    const first = $("questions").querySelector("details");
    if (first) first.open = true;
    $("answers").scrollIntoView();
  };

  // Two variants against each other.
  const share = (node, of, name) => { node.style.setProperty("--share", of.toFixed(3)); node.classList.add("share", name); return node; };
  const counted = (label, count, of, style, test, order) => {
    const button = make("button", { type: "button", "aria-label": `${label}: ${count} questions`, click: () => narrow(label, test, order) }, String(count));
    return share(make("td", { class: "number" }, count ? button : ""), of ? count / of : 0, style);
  };
  const distance = (a, b) => {
    const weigh = i => Math.abs((answers[a].score[i] ?? 0) - (answers[b].score[i] ?? 0)) * 2 + (isWrong(outcome(a, i)) || isWrong(outcome(b, i)) ? 1 : 0);
    return all.filter(i => outcome(a, i) !== outcome(b, i)).map(i => [weigh(i), i]).sort((x, y) => y[0] - x[0] || x[1] - y[1]).map(([, i]) => i);
  };
  const grid = (corner, rows, columns, cells) => make("table", { class: "grid" },
    make("thead", {}, make("tr", {}, make("th", {}, corner), ...columns.map(name => make("th", {}, words(name))), make("th", {}, "all"))),
    make("tbody", {}, ...rows.map(row => make("tr", {}, make("th", { scope: "row", dir: "auto" }, row.label), ...cells(row)))));
  const pair = () => {
    const a = Number($("first").value), b = Number($("second").value), set = values.subset.indexOf($("pair-set").value);
    const those = all.filter(i => set < 0 || questions.subset[i] === set), names = [variants[a].name, variants[b].name];
    const inSet = i => set < 0 || questions.subset[i] === set;
    const present = v => values.outcome.filter(name => those.some(i => outcome(v, i) === name));
    const columns = present(b), rows = present(a).map(name => ({ label: words(name), name, those: those.filter(i => outcome(a, i) === name) }));
    const order = distance(a, b), differing = order.filter(inSet);
    const cells = row => [...columns.map(name => {
      const test = i => inSet(i) && outcome(a, i) === row.name && outcome(b, i) === name;
      const style = isRight(row.name) === isRight(name) ? "even" : isRight(row.name) ? "gain" : "loss";
      return counted(`${names[0]}: ${row.label}, ${names[1]}: ${words(name)}`, row.those.filter(test).length, those.length, style, test);
    }), make("td", { class: "number soft" }, String(row.those.length))];
    $("matrix").replaceChildren(grid(`${names[0]} ↓   ${names[1]} →`, rows, columns, cells));
    const differ = i => inSet(i) && outcome(a, i) !== outcome(b, i);
    $("differing").replaceChildren(
      make("p", { class: "note" }, differing.length ? `The ${Math.min(DIFFERING, differing.length)} questions on which they differ most, of ${differing.length} with another outcome: ` : "They differ on no question.",
        differing.length > DIFFERING ? make("button", { type: "button", class: "link", click: () => narrow(`${names[0]} and ${names[1]} differ`, differ, order) }, "list them all") : null),
      ...differing.slice(0, DIFFERING).map(card));
  };
  const heat = () => {
    const v = Number($("heat-variant").value), name = $("heat-by").value, code = questions[name] ?? answers[v][name];
    const tally = values[name].map((label, n) => ({ label: words(label), n, those: all.filter(i => code[i] === n) })).filter(row => row.those.length).sort((x, y) => y.those.length - x.those.length);
    const columns = values.outcome.filter((_, n) => all.some(i => code[i] >= 0 && answers[v].outcome[i] === n));
    const cells = row => [...columns.map(column => {
      const test = i => code[i] === row.n && outcome(v, i) === column;
      return counted(`${variants[v].name}, ${row.label}: ${words(column)}`, row.those.filter(test).length, row.those.length, isRight(column) ? "gain" : data.silent.includes(column) ? "even" : "loss", test);
    }), make("td", { class: "number soft" }, String(row.those.length))];
    $("heat").replaceChildren(grid($("heat-by").selectedOptions[0]?.textContent ?? "", tally.slice(0, ROWS), columns, cells));
    $("heat-note").textContent = tally.length > ROWS ? `The ${ROWS} most asked of ${tally.length}; the list's filters have all.` : "";
  };

  const numbers = variants.map((_, v) => String(v)), labels = variants.map(v => v.name);
  for (const [id, name] of Object.entries(coded)) {
    fill($(id), values[name], values[name].map(value => id === "attribute" || id === "category" ? value : words(value)), { subset: "All sets", intent: "All intents", category: "All categories", attribute: "All attributes" }[id]);
    $(id).hidden = !values[name].length;
  }
  fill($("variant"), numbers, labels, "Any variant");
  fill($("outcome"), values.outcome, values.outcome.map(words), "Any outcome");
  fill($("error"), values.error_class, values.error_class.map(words), "Any error class");
  $("error").hidden = !values.error_class.length;
  for (const id of ["first", "second", "heat-variant"]) fill($(id), numbers, labels);
  $("first").value = $("heat-variant").value = String(data.pair[0]); $("second").value = String(data.pair[1]);
  fill($("pair-set"), values.subset, values.subset.map(words), "All sets");
  const dimensions = { asked_attribute: "Asked attribute", category: "Category", subcategory: "Subcategory", department: "Department", intent: "Intent", subset: "Set", error_class: "Error class" };
  const known = Object.keys(dimensions).filter(name => values[name].length);
  fill($("heat-by"), known, known.map(name => dimensions[name]));
  [...Object.keys(coded), "variant", "outcome", "error", "agreement"].forEach(id => $(id).addEventListener("change", apply));
  let typing;
  $("filter").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(apply, 120); });
  $("clear").addEventListener("click", clear);
  $("chip").addEventListener("click", () => { cell = only = sorted = null; if (location.hash) history.replaceState(null, "", " "); apply(); $("filter").focus(); });
  $("previous").addEventListener("click", () => { page -= 1; show(); });
  $("next").addEventListener("click", () => { page += 1; show(); });
  ["first", "second", "pair-set"].forEach(id => $(id).addEventListener("change", pair));
  ["heat-variant", "heat-by"].forEach(id => $(id).addEventListener("change", heat));
  addEventListener("hashchange", fromLink);
  pair(); heat(); apply(); fromLink();
  document.documentElement.dataset.ready = "true";
})();
