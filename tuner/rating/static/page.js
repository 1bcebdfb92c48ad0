// Sends each value by itself and shows it as chosen once the server has stored it.
// Without this script the forms work as plain forms.
"use strict";

const rows = [...document.querySelectorAll(".row")];
const comment = document.getElementById("comment");
const text = document.getElementById("text");
const status = document.getElementById("status");
const PATIENCE = 15000; // ms to wait for an answer

const waiting = []; // what is not stored yet, in the order of the clicks
let sending = false;
let leaving = null; // where to go when all is stored
let stored = text.value;

function say(words, bad = false) {
  status.textContent = words;
  status.classList.toggle("bad", bad);
}

async function send(one) {
  const answer = await fetch(one.form.action, {
    method: "POST",
    headers: { Accept: "application/json" },
    body: new URLSearchParams(one.fields),
    keepalive: true, // goes on where the page is closed meanwhile
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (answer.ok) return one.saved(await answer.json());
  const reason = await answer.text();
  if (answer.status >= 500) throw new Error(reason);
  one.refused();
  say(`Not saved: ${reason}`, true);
  leaving = null;
}

async function sendAll() {
  if (sending) return;
  sending = true;
  for (let wait = 500; waiting.length; ) {
    try {
      say("Saving …");
      const last = waiting.length === 1;
      const before = status.textContent;
      await send(waiting[0]);
      waiting.shift();
      if (last && status.textContent === before) say("Saved");
      wait = 500;
    } catch (error) {
      const reason = error instanceof TypeError || error.name === "TimeoutError" ? "the server does not answer" : error.message;
      say(`Not saved yet: ${reason}. Trying again …`, true);
      await new Promise((done) => setTimeout(done, wait));
      wait = Math.min(wait * 2, 5000);
    }
  }
  sending = false;
  if (leaving) location.assign(leaving);
}

function put(form, value, saved, refused) {
  const fields = [...new FormData(form)].filter(([name]) => name !== "value");
  waiting.push({
    form,
    fields: [...fields, ["value", value]],
    refused,
    saved: (state) => {
      document.getElementById("done").textContent = state.done;
      document.getElementById("progress").value = state.done;
      document.getElementById("next").classList.toggle("ready", state.this);
      saved();
    },
  });
  sendAll();
}

function choose(row, button) {
  const buttons = [...row.querySelectorAll("button")];
  buttons.forEach((one) => one.classList.toggle("pending", one === button));
  const settle = () => button.classList.remove("pending");
  put(row, button.value, () => {
    settle();
    buttons.forEach((one) => one.setAttribute("aria-pressed", one === button));
  }, settle);
}

function putComment() {
  const typed = text.value;
  if (typed === stored) return;
  stored = typed;
  put(comment, typed, () => {}, () => (stored = null));
}

function go(address) {
  putComment();
  if (!waiting.length) return location.assign(address);
  leaving = address; // the last click is stored first
}

function focusRow(row) {
  row?.focus();
  row?.scrollIntoView({ block: "nearest" });
}

function beside(row, step) {
  const columns = [...new Set(rows.map((one) => one.dataset.column).filter(Boolean))];
  const column = columns[columns.indexOf(row.dataset.column) + step];
  return row.dataset.column && rows.find((one) => one.dataset.column === column && one.dataset.line === row.dataset.line);
}

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (event.target === text) {
    if (event.key === "Escape") (putComment(), focusRow(rows.at(-1)));
    return;
  }
  const row = document.activeElement.closest?.(".row");
  const place = rows.indexOf(row);
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  const onButton = document.activeElement.matches?.("button, a, summary");
  const steps = { ArrowDown: rows[place + 1], ArrowUp: rows[place - 1] };
  if (row) Object.assign(steps, { ArrowRight: beside(row, 1), ArrowLeft: beside(row, -1) });
  if (key in steps) {
    if (!row && document.activeElement.matches?.(".text")) return; // a long text scrolls
    focusRow(steps[key]);
  } else if (key >= "1" && key <= "5" && row?.dataset.column) {
    choose(row, row.querySelector(`button[value="${key}"]`));
    focusRow(rows[place + 1]);
  } else if (/^[A-DT]$/.test(key)) {
    const pairs = rows.filter((one) => one.classList.contains("prefer"));
    const pair = pairs.includes(row) ? row : pairs.length === 1 ? pairs[0] : null;
    const button = pair?.querySelector(`button[value="${key === "T" ? "tie" : key}"]`);
    if (!button) return;
    choose(pair, button);
    focusRow(pairs[pairs.indexOf(pair) + 1] ?? pair);
  } else if (key === "N" || key === "P") {
    const link = document.getElementById(key === "N" ? "next" : "previous");
    if (link) go(link.href);
  } else if (key === "Enter" && !onButton) {
    text.focus();
  } else return;
  event.preventDefault();
}

for (const row of rows) {
  row.tabIndex = 0;
  for (const button of row.querySelectorAll("button")) {
    button.tabIndex = -1; // a row is one stop; digits and letters choose in it
    button.type = "button";
    button.addEventListener("click", () => choose(row, button));
  }
}
for (const link of document.querySelectorAll("nav a")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(link.href);
  });
}
let typing;
text.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(putComment, 500);
});
text.addEventListener("change", putComment);
comment.querySelector("button").hidden = true;
comment.addEventListener("submit", (event) => (event.preventDefault(), putComment()));
document.addEventListener("keydown", onKey);
window.addEventListener("beforeunload", (event) => {
  putComment();
  if (waiting.length) event.preventDefault();
});
window.addEventListener("pageshow", (event) => event.persisted && location.reload());
(rows.find((row) => !row.querySelector('[aria-pressed="true"]')) ?? rows[0]).focus({ preventScroll: true });
