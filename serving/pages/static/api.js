/** The gateway's API, as this page uses it: streamed chat and feedback. */
import { eventData } from "./sse.js";

/** Something went wrong, in words for a person. `remedy` is "retry", "reload" or "none". */
export class Problem extends Error {
  constructor(words, remedy = "retry") {
    super(words);
    this.remedy = remedy;
  }
}

/**
 * Stream one turn; yields the API's chunks as parsed JSON. Throws `Problem`, or an AbortError when `signal` fired.
 * @param {{model: string, messages: object[], pair: boolean, conversation: string, signal: AbortSignal}} turn
 */
export async function* chat({ model, messages, pair, conversation, signal }) {
  const body = { model, messages, stream: true };
  if (pair) Object.assign(body, { n: 2, compare: true });
  const response = await post("/v1/chat/completions", body, { "x-plaudit-conversation": conversation }, { signal });
  try {
    for await (const data of eventData(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Problem(`The answer broke off: ${chunk.error.message}`);
      yield chunk;
    }
  } catch (error) {
    if (error instanceof Problem || signal.aborted) throw error;
    throw new Problem("The answer broke off: the connection to the server was lost.");
  }
  throw new Problem("The answer broke off before its end.");
}

/** Record a judgement. The receipt alone says who may judge what: no key and no cookie go with it. Throws `Problem`. */
export async function sendFeedback(feedback) {
  await post("/v1/feedback", feedback, {}, { credentials: "omit", signal: AbortSignal.timeout(15000) });
}

async function post(path, body, headers, options) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
      ...options,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server cannot be reached. Is Plaudit still running?");
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response) {
  const said = await response.json().then((body) => body.error?.message, () => undefined);
  const wait = Number(response.headers.get("retry-after"));
  switch (response.status) {
    case 401:
    case 403:
      return new Problem("This page's session has ended. Reload the page to go on.", "reload");
    case 429:
      return new Problem(`Too many requests just now. Wait ${wait > 0 ? `${wait} seconds` : "a moment"}, then try again.`);
    case 503:
      return new Problem("The model is not ready: it is starting or restarting, which can take two minutes. Your message is kept.");
    case 400:
    case 404:
    case 409:
    case 413:
    case 422:
      return new Problem(said ?? `The server refused this (${response.status}).`, "none");
    default:
      return new Problem(said ?? `Something went wrong on the server (${response.status}).`);
  }
}
