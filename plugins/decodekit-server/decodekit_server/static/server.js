// The server: the one place that asks it, and words for what goes wrong.

let key = ""; // in memory only: gone when the page is

export const useKey = (value) => (key = value);
export const usesKey = () => key !== "";

/** What the server, or the way to it, said instead of an answer. */
class ServerError extends Error {
  constructor(message, { status = 0, param = null } = {}) {
    super(message);
    Object.assign(this, { status, param });
  }
}

export const getJson = async (path) => (await ask(path)).json();

/** The events of a stream, each as its data. Ends where the server says so; anything else is an error. */
export async function* events(path, body, signal) {
  const response = await ask(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  let isWhole = false;
  for await (const data of lines(response.body)) {
    isWhole ||= data === "[DONE]";
    if (isWhole) continue;
    const event = JSON.parse(data);
    if (event.error) throw told(event.error, 200);
    yield event;
  }
  if (!isWhole) throw new ServerError("The connection ended before the answer did.");
}

async function ask(path, { headers = {}, ...options } = {}) {
  const authorization = key ? { authorization: `Bearer ${key}` } : {};
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), {
      ...options,
      headers: { ...headers, ...authorization },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw told(body.error ?? {}, response.status);
}

function told({ message, param }, status) {
  return new ServerError(message ?? `The server answered with status ${status}.`, { status, param });
}

/** The data of server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html */
async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) if (block.startsWith("data: ")) yield block.slice("data: ".length);
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The connection broke before the answer was whole.");
  }
}
