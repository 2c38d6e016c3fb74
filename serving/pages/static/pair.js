/** Two answers side by side, and the choice between them. Side A is choice 0 of the stream, as the server drew it. */
import { sendFeedback } from "./api.js";
import { announce, fresh, keepingBottom, remark, remarkOn } from "./dom.js";

const THANKS = {
  a: "Thank you! The chat goes on with A.",
  b: "Thank you! The chat goes on with B.",
  tie: "Thank you! A tie: the chat goes on with A.",
  both_bad: "Thank you! Both bad: the chat goes on with A.",
};

export class Pair {
  /** @param {(text: string, chosen: boolean) => void} onKept called once, with the answer that the conversation keeps */
  constructor(onKept) {
    this.onKept = onKept;
    this.element = fresh("pair");
    this.sides = [...this.element.querySelectorAll(".side")].map((element) => {
      element.classList.add("waiting");
      return { element, node: element.querySelector(".text").appendChild(new Text()), text: "", reason: null };
    });
    this.fieldset = this.element.querySelector("fieldset");
    this.note = this.element.querySelector(".note");
    this.receipt = null;
    this.complete = null; // when both had ended, in ms of performance.now()
    this.settled = false;
    for (const button of this.fieldset.querySelectorAll("button")) {
      button.addEventListener("click", () => this.choose(button.dataset.value));
    }
  }

  /** What the conversation keeps unless B is chosen. */
  get text() {
    return this.sides[0].text;
  }

  /** Take one chunk of the stream. */
  take(chunk) {
    if (chunk.plaudit?.receipt) this.receipt = chunk.plaudit.receipt;
    for (const { index, delta, finish_reason } of chunk.choices ?? []) {
      const side = this.sides[index];
      if (delta?.content) {
        side.text += delta.content;
        side.element.classList.remove("waiting");
        keepingBottom(() => side.node.appendData(delta.content));
      }
      if (finish_reason) {
        side.reason = finish_reason;
        side.element.classList.remove("waiting");
        const words = side.text === "" ? "The model had nothing to say." : remarkOn(finish_reason);
        if (words) remark(side.element, words);
      }
    }
  }

  /** The stream has ended by itself: the choice opens, and its clock starts. */
  end() {
    for (const { element } of this.sides) element.classList.remove("waiting");
    if (!this.receipt) return;
    this.fieldset.disabled = false;
    this.fieldset.querySelector(".hint").textContent = "Write on without choosing, and A stays.";
    this.complete = performance.now();
    announce("Both answers are complete. Which do you prefer?");
  }

  /** The person stopped it: nothing to choose, A stays as far as it came. */
  stop() {
    for (const { element } of this.sides) element.classList.remove("waiting");
    remark(this.sides[0].element, "Stopped.");
    remark(this.sides[1].element, "Stopped.");
    this.keep(0);
  }

  async choose(value) {
    if (this.choosing || this.settled) return;
    this.choosing = true;
    const decision_ms = Math.min(Math.round(performance.now() - this.complete), 86_400_000); // a day is all the API takes
    try {
      await sendFeedback({ type: "preference", value, decision_ms, receipt: this.receipt });
    } catch (problem) {
      this.note.textContent = `Not saved. ${problem.message} Choose again.`;
      this.note.classList.add("failed");
      return;
    } finally {
      this.choosing = false;
    }
    this.note.textContent = THANKS[value];
    this.note.classList.remove("failed");
    this.keep(value === "b" ? 1 : 0, true);
  }

  /** Settle on one side (0 or 1): it reads on as the conversation's answer, the other folds away. */
  keep(index, chosen = false) {
    if (this.settled) return;
    this.settled = true;
    const other = this.sides[1 - index];
    const details = document.createElement("details");
    const summary = details.appendChild(document.createElement("summary"));
    summary.textContent = "The other answer";
    keepingBottom(() => {
      this.fieldset.remove();
      this.element.classList.add("settled");
      this.sides[index].element.after(details);
      details.append(other.element);
    });
    this.onKept(this.sides[index].text, chosen);
  }
}
