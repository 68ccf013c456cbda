"use strict";
const root = document.documentElement;
const byHash = () => /^#lang=(en|zh)$/.exec(location.hash)?.[1];
const kept = (lang) => {
  // A file that was opened from disk may have no storage.
  try {
    if (lang) localStorage.setItem("align-check.lang", lang);
    return localStorage.getItem("align-check.lang");
  } catch { return null; }
};
function speak(lang) {
  root.lang = lang === "zh" ? "zh" : "en";
  for (const button of document.querySelectorAll("[data-lang]"))
    button.setAttribute("aria-pressed", button.dataset.lang === root.lang);
  for (const input of document.querySelectorAll(".find")) input.placeholder = input.dataset[root.lang];
}
for (const button of document.querySelectorAll("[data-lang]"))
  button.addEventListener("click", () => { kept(button.dataset.lang); speak(button.dataset.lang); });
speak(byHash() ?? kept() ?? (navigator.language.startsWith("zh") ? "zh" : "en"));

// What an address names is opened, with all that it lies in.
function open() {
  const lang = byHash();
  if (lang) speak(lang);
  const named = document.getElementById(location.hash.slice(1));
  for (let at = named?.closest("details"); at; at = at.parentElement.closest("details")) at.open = true;
  named?.scrollIntoView();
}
addEventListener("hashchange", open);
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='#']");
  if (link && link.getAttribute("href") === location.hash) open();
});
open();

for (const list of document.querySelectorAll(".layers")) {
  const lines = () => [...list.querySelectorAll("details")];
  const heads = [...list.querySelectorAll("[data-by]")];
  for (const head of heads) head.addEventListener("click", () => {
    const by = head.dataset.by;
    const down = head.dataset.sorted ? head.dataset.sorted === "up" : head.dataset.down === "1";
    for (const other of heads) delete other.dataset.sorted;
    head.dataset.sorted = down ? "down" : "up";
    const numeric = by !== "cause" && by !== "grade";
    const order = (a, b) => numeric ? a.dataset[by] - b.dataset[by] : a.dataset[by].localeCompare(b.dataset[by]);
    list.append(...lines().sort((a, b) => down ? order(b, a) : order(a, b)));
  });
  list.previousElementSibling.querySelector(".find").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const line of lines()) line.hidden = !line.querySelector("summary").textContent.toLowerCase().includes(wanted);
  });
}
