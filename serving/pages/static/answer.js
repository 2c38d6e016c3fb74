/** One answer and its two thumbs. */
import { sendFeedback } from "./api.js";
import { fresh, keepingBottom, remark, remarkOn } from "./dom.js";

export class Answer {
  constructor() {
    this.element = fresh("answer");
    this.element.classList.add("waiting");
    this.text = "";
    this.node = this.element.querySelector(".text").appendChild(new Text());
    this.reason = null;
    this.plaudit = null; // {completion_id, receipt}: what a rating needs
  }

  /** Take one chunk of the stream. */
  take(chunk) {
    if (chunk.plaudit) this.plaudit = { ...this.plaudit, ...chunk.plaudit };
    for (const choice of chunk.choices ?? []) {
      if (choice.finish_reason) this.reason = choice.finish_reason;
      if (choice.delta?.content) this.append(choice.delta.content);
    }
  }

  append(piece) {
    this.text += piece;
    this.element.classList.remove("waiting");
    keepingBottom(() => this.node.appendData(piece));
  }

  /** The stream has ended by itself: now it can be rated. */
  end() {
    this.element.classList.remove("waiting");
    const words = this.text === "" ? "The model had nothing to say." : remarkOn(this.reason);
    if (words) remark(this.element, words);
    if (this.plaudit?.receipt) keepingBottom(() => enableThumbs(this.element.querySelector(".thumbs"), this.plaudit));
  }

  /** The person stopped it: what came stays, unrated. */
  stop() {
    this.element.classList.remove("waiting");
    remark(this.element, "Stopped.");
  }
}

function enableThumbs(group, { completion_id, receipt }) {
  const thumbs = [...group.querySelectorAll(".thumb")];
  const note = group.querySelector(".note");
  let busy = false;

  const press = async (thumb) => {
    if (busy) return; // one at a time, so that the last press is also the last one recorded
    busy = true;
    const retract = thumb.getAttribute("aria-pressed") === "true";
    try {
      await sendFeedback({ type: "rating", value: retract ? 0 : Number(thumb.dataset.value), receipt, completion_id });
      for (const each of thumbs) each.setAttribute("aria-pressed", String(each === thumb && !retract));
      note.textContent = retract ? "Rating removed." : "Thank you!";
      note.classList.remove("failed");
    } catch (problem) {
      note.textContent = `Not saved. ${problem.message}`;
      note.classList.add("failed");
    } finally {
      busy = false;
    }
  };

  for (const thumb of thumbs) thumb.addEventListener("click", () => press(thumb));
  group.hidden = false;
}
