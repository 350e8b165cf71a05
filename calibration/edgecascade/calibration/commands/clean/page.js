"use strict";
// Shows one input after the other with two labels, keeps each verdict in the browser, and saves all as CSV.
const audit = JSON.parse(document.getElementById("data").textContent);
const items = audit.items;
const slot = "edgecascade label audit " + audit.audit;
const at = (id) => document.getElementById(id);
const answers = [...document.querySelectorAll("#answers button")];
let verdicts = {};
let shown = 0;
let keeps = true;
let unsaved = false;

function load() {
  try {
    verdicts = JSON.parse(localStorage.getItem(slot)) || {};
  } catch {
    keeps = false;
  }
}

function keep(row, verdict) {
  try {
    const stored = JSON.parse(localStorage.getItem(slot)); // another tab may have added to it
    verdicts = { ...verdicts, ...stored, [row]: verdict };
    localStorage.setItem(slot, JSON.stringify(verdicts));
  } catch {
    keeps = false;
    verdicts[row] = verdict;
  }
  unsaved = true;
}

const judged = () => items.filter((item) => verdicts[item.row]).length;
const firstOpen = () => items.findIndex((item) => !verdicts[item.row]);
const verdictOf = (item, answer) =>
  answer === "0" || answer === "1" ? (Number(answer) === item.given ? "given" : "suggested") : answer;

function element(item) {
  if (item.image) {
    const image = new Image();
    image.alt = "The input to judge";
    image.onload = () => image.classList.toggle("small", image.naturalWidth <= 128 && image.naturalHeight <= 128);
    image.src = item.image;
    return image;
  }
  if (item.text !== undefined) {
    const text = document.createElement("p");
    text.dir = "auto";
    text.tabIndex = 0;
    text.textContent = item.text;
    return text;
  }
  if (item.media === "audio" || item.media === "video") {
    const player = document.createElement(item.media);
    player.controls = true;
    player.preload = "metadata";
    player.src = item.link;
    return player;
  }
  const opener = document.createElement("button"); // a link would show its address, which may hold a label
  opener.type = "button";
  opener.textContent = "Open the input";
  opener.onclick = () => window.open(item.link, "_blank", "noopener");
  return opener;
}

function show(position, say = true) {
  closeOther();
  shown = position;
  const done = position >= items.length;
  at("item").hidden = done;
  at("done").hidden = !done;
  const count = judged();
  at("place").textContent = done ? `${count} of ${items.length} judged` : `${position + 1} of ${items.length}`;
  at("progress").max = items.length;
  at("progress").value = count;
  at("back").disabled = position === 0;
  at("next").disabled = done || !verdicts[items[position].row];
  at("save").disabled = count === 0;
  at("save").classList.toggle("ready", count === items.length);
  at("kept").textContent = keeps
    ? `${count} of ${items.length} judged; kept in this browser, also when the page is closed.`
    : "This browser keeps nothing for this page: save the verdicts before you close it.";
  at("csv").value = done ? csv() : ""; // it tells which label was given
  if (done) {
    at("finished").textContent =
      count === items.length ? "All inputs are judged" : `${items.length - count} inputs are not judged yet`;
    if (say) at("finished").focus();
    return;
  }
  const item = items[position];
  at("input").replaceChildren(element(item));
  for (const button of answers) {
    const answer = button.dataset.answer;
    if (answer < "2") button.querySelector("bdi").textContent = item.labels[Number(answer)];
    const found = verdicts[item.row];
    button.setAttribute("aria-pressed", String(Boolean(found) && found.verdict === verdictOf(item, answer)));
  }
  if (say) at("said").textContent = `Input ${position + 1} of ${items.length}. 1: ${item.labels[0]}. 2: ${item.labels[1]}.`;
}

function answer(value, label = "") {
  const item = items[shown];
  keep(item.row, { verdict: verdictOf(item, value), label, time: new Date().toISOString().slice(0, 19) + "Z" });
  show(shown + 1);
}

function openOther() {
  const found = verdicts[items[shown].row];
  at("right").value = found ? found.label : "";
  at("wrong").textContent = "";
  at("other").hidden = false;
  at("answers").hidden = true;
  at("right").focus();
}

function closeOther() {
  const inside = at("other").contains(document.activeElement);
  at("other").hidden = true;
  at("answers").hidden = false;
  if (inside) answers[3].focus();
}

function submitOther(event) {
  event.preventDefault();
  const typed = at("right").value.trim();
  const same = (name) => name.toLowerCase() === typed.toLowerCase();
  const label = audit.classes.includes(typed) ? typed : audit.classes.find(same);
  const place = items[shown].labels.indexOf(label);
  if (typed && label === undefined) {
    at("wrong").textContent = "This is not one of the classes. Leave it empty if the right label is not among them.";
  } else if (typed && place >= 0) {
    at("wrong").textContent = `This is label ${place + 1}: press Cancel, then ${place + 1}.`;
  } else {
    answer("other", typed ? label : "");
  }
}

function field(value) {
  const plain = String(value);
  const text = /^[=+\-@\t\r']/.test(plain) ? "'" + plain : plain; // no formula in a spreadsheet
  return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

function csv() {
  const lines = [audit.columns];
  for (const item of items) {
    const found = verdicts[item.row];
    if (!found) continue;
    const [given, suggested] = [item.labels[item.given], item.labels[1 - item.given]];
    lines.push([item.row, item.id, found.verdict, found.label, given, suggested, audit.audit, found.time]);
  }
  return lines.map((line) => line.map(field).join(",") + "\r\n").join("");
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
  link.download = audit.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  unsaved = false;
  at("said").textContent = `Saved ${judged()} verdicts.`;
}

function press(value) {
  if (shown >= items.length) return;
  if (value === "other") openOther();
  else answer(value);
}

const keys = { 1: "0", 2: "1", 3: "both", 4: "other", 5: "cannot_tell" };
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !at("other").hidden) {
    closeOther();
    return;
  }
  const where = event.target.tagName;
  if (/^(INPUT|TEXTAREA)$/.test(where) || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const digit = keys[event.key] ? event.key : event.code.replace("Digit", ""); // some keyboards need Shift for digits
  const playing = where === "AUDIO" || where === "VIDEO"; // arrows move within it
  if (keys[digit] && at("other").hidden) press(keys[digit]);
  else if (!playing && (event.key === "ArrowLeft" || event.key === "Backspace")) at("back").click();
  else if (!playing && event.key === "ArrowRight") at("next").click();
  else return;
  event.preventDefault();
});
for (const button of answers) {
  button.onclick = (event) => {
    if (event.detail) button.blur(); // clicked or tapped: it would look chosen for the next input
    press(button.dataset.answer);
  };
}
at("other").onsubmit = submitOther;
at("cancel").onclick = closeOther;
at("back").onclick = () => show(Math.max(0, shown - 1));
at("next").onclick = () => show(shown + 1);
at("save").onclick = save;
window.addEventListener("beforeunload", (event) => {
  if (!keeps && unsaved) event.preventDefault();
});
for (const name of audit.classes) at("classes").append(new Option(name));
load();
show(firstOpen() < 0 ? items.length : firstOpen(), false);
