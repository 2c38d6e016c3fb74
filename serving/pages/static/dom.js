/** Small helpers around the document. Text of people and models enters it as text nodes only. */

/** A fresh copy of the only element of `<template id="NAME-template">`. */
export function fresh(name) {
  return document.getElementById(`${name}-template`).content.firstElementChild.cloneNode(true);
}

/** Say something to screen readers, once. */
export function announce(words) {
  document.getElementById("announcer").textContent = words;
}

/** Show a remark under an answer, such as why it ended early. */
export function remark(element, words) {
  const line = element.querySelector(".remark");
  line.textContent = words;
  line.hidden = false;
}

/** Run `change`, and stay at the bottom of the page if the reader was there. */
export function keepingBottom(change) {
  const page = document.scrollingElement;
  const below = page.scrollHeight - page.scrollTop - page.clientHeight;
  change();
  if (below < 80) page.scrollTop = page.scrollHeight;
}

/** What to say of an answer that ended for `reason`, if anything. */
export function remarkOn(reason) {
  return reason === "length" ? "Cut at the length limit." : null;
}
