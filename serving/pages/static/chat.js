/** The chat page: one conversation, kept here in the browser, and the box to write in. */
import { chat, Problem } from "./api.js";
import { Answer } from "./answer.js";
import { announce, fresh, keepingBottom } from "./dom.js";
import { Pair } from "./pair.js";

const MODEL = document.body.dataset.model;
const log = document.getElementById("conversation");
const welcome = document.getElementById("welcome");
const composer = document.getElementById("composer");
const box = document.getElementById("message");
const send = document.getElementById("send");
const stop = document.getElementById("stop");
const pairs = document.getElementById("pairs");
const nextLine = document.getElementById("next");

let conversation = newConversation();
let answered = 0; // messages answered since the page was opened: every third one asks for a pair
let running = null; // AbortController of the turn under way
let openPair = null; // a pair that waits for a choice

function newConversation() {
  return { id: identifier(), messages: [] };
}

/** randomUUID is there on https and loopback only. */
function identifier() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function nextIsPair() {
  const every = Number(pairs.value);
  return every > 0 && (answered + 1) % every === 0;
}

function showNext() {
  nextLine.textContent = nextIsPair() ? "Next: two answers." : "Next: one answer.";
}

function setRunning(controller) {
  running = controller;
  const hadFocus = document.activeElement === send || document.activeElement === stop;
  send.hidden = controller !== null;
  stop.hidden = controller === null;
  if (hadFocus) box.focus();
}

function showProblem(problem, again) {
  const element = fresh("problem");
  element.querySelector(".text").textContent = problem.message;
  const button = element.querySelector(".again");
  if (problem.remedy === "none") button.remove();
  if (problem.remedy === "reload") button.textContent = "Reload";
  button.addEventListener("click", () => {
    if (problem.remedy === "reload") return location.reload();
    if (running) return;
    element.remove();
    box.focus();
    again();
  });
  keepingBottom(() => log.append(element));
  return element;
}

/** The person writes on instead of trying again: the question before stays out of the conversation. */
function leaveUnanswered(problem) {
  const line = document.createElement("p");
  line.className = "remark";
  line.textContent = "Not answered.";
  problem.replaceWith(line);
}

/** Ask for one answer, or two, to `question`; the conversation grows only by what was really answered. */
async function turn(question, pair) {
  const here = conversation;
  const asked = { role: "user", content: question };
  const keep = (text) => here.messages.push(asked, { role: "assistant", content: text });
  const view = pair ? new Pair((text, chosen) => {
    openPair = null;
    keep(text);
    if (chosen) box.focus();
  }) : new Answer();
  keepingBottom(() => log.append(view.element));

  const controller = new AbortController();
  setRunning(controller);
  announce(pair ? "Two answers are being written." : "The answer is being written.");
  try {
    const request = { model: MODEL, messages: [...here.messages, asked], pair, conversation: here.id, signal: controller.signal };
    for await (const chunk of chat(request)) view.take(chunk);
    if (here !== conversation) return;
    view.end();
    answered += 1;
    if (pair) openPair = view;
    else {
      keep(view.text);
      announce(`Answer: ${view.text}`);
    }
  } catch (error) {
    if (here !== conversation) return; // "New chat" ended it: its view is gone
    if (controller.signal.aborted && view.text === "") view.element.remove();
    if (controller.signal.aborted && view.text !== "") {
      view.stop();
      if (!pair) keep(view.text);
    }
    if (controller.signal.aborted) return announce("Stopped.");
    view.element.remove();
    showProblem(error instanceof Problem ? error : new Problem(`The page failed: ${error.message}`), () => turn(question, pair));
  } finally {
    if (running === controller) setRunning(null);
    showNext();
  }
}

function submit() {
  const question = box.value.trim();
  if (question === "" || running) return;
  openPair?.keep(0);
  for (const problem of log.querySelectorAll(".problem")) leaveUnanswered(problem);
  welcome.hidden = true;
  box.value = "";
  const element = fresh("question");
  element.querySelector(".text").textContent = question;
  log.append(element);
  document.scrollingElement.scrollTop = document.scrollingElement.scrollHeight;
  turn(question, nextIsPair());
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
box.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
stop.addEventListener("click", () => running?.abort());
document.getElementById("new-chat").addEventListener("click", () => {
  conversation = newConversation();
  running?.abort();
  setRunning(null);
  openPair = null;
  log.replaceChildren(welcome);
  welcome.hidden = false;
  announce("New chat.");
  box.focus();
});
pairs.addEventListener("change", () => {
  localStorage.setItem("plaudit-pairs", pairs.value);
  showNext();
});

const remembered = localStorage.getItem("plaudit-pairs");
if ([...pairs.options].some((option) => option.value === remembered)) pairs.value = remembered;
showNext();
box.focus();
