// What is asked: requests of the server's own API, as any client could send them.

import { live } from "./settings.js";

const TOP = 20; // candidates listed at each place of a trace

/** The path and body of the request that settings stand for, with one of their chains. */
export function request(settings, chain) {
  const { model, mode, prompt, seed, max_tokens } = settings;
  const stopping = live(settings.stopping);
  const decodekit = { processors: live(chain), ...(stopping.length ? { stopping } : {}) };
  const asked = mode === "chat" ? { messages: [{ role: "user", content: prompt }] } : { prompt };
  return {
    path: mode === "chat" ? "v1/chat/completions" : "v1/completions",
    body: { model, ...asked, max_tokens, seed, decodekit },
  };
}

/** The same request as a stream, with probabilities on the way and the trace at its end. */
export function watched({ path, body }) {
  const logprobs = path.includes("chat") ? { logprobs: true } : { logprobs: 0 };
  const decodekit = { ...body.decodekit, trace: true, trace_top: TOP };
  return { path, body: { ...body, ...logprobs, stream: true, decodekit } };
}
