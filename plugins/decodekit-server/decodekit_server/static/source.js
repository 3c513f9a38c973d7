// Source: the same request in Python, for the command line, and for any client. Pure functions of settings.

import { request } from "./ask.js";
import { live } from "./settings.js";

export const KINDS = {
  Python: python,
  "OpenAI client": client,
  curl,
  "Command line": command,
};

const TWICE = "# A strategy that comes twice cannot be written as text; ask the server instead.";

function python(settings, chain) {
  const processors = texts(live(chain));
  const criteria = texts(live(settings.stopping));
  if (!processors || !criteria) return TWICE;
  const lines = [
    settings.mode === "chat" ? quoted(settings.prompt) : "prompt",
    literal(processors),
    `max_new_tokens=${settings.max_tokens}`,
    `seed=${settings.seed}`,
    ...(criteria.length ? [`criteria=${literal(criteria)}`] : []),
  ];
  return [
    "import decodekit",
    "",
    `decoder = decodekit.load(${quoted(settings.model)})`,
    ...(settings.mode === "raw" ? rawPrompt(settings.prompt) : []),
    "completion = decoder.generate(",
    ...lines.map((line) => `    ${line},`),
    ")",
    "print(completion.text)",
  ].join("\n");
}

const rawPrompt = (prompt) => [
  `prompt = decoder.tokenizer.encode(${quoted(prompt)})`,
  "prefix = list(decoder.tokenizer.prefix)",
  "if prompt[: len(prefix)] != prefix:",
  "    prompt = prefix + prompt",
];

function client(settings, chain) {
  const { path, body } = request(settings, chain);
  const { decodekit, ...fields } = body;
  const isChat = path.includes("chat");
  const lines = [
    ...Object.entries(fields).map(([name, value]) => `${name}=${literal(value)}`),
    `extra_body={"decodekit": ${literal(decodekit)}}`,
  ];
  return [
    "import os",
    "",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${quoted(new URL("v1", document.baseURI).href)}, api_key=os.environ.get("DECODEKIT_API_KEY", "none"))`,
    `answer = client.${isChat ? "chat.completions" : "completions"}.create(`,
    ...lines.map((line) => `    ${line},`),
    ")",
    `print(answer.choices[0].${isChat ? "message.content" : "text"})`,
  ].join("\n");
}

function curl(settings, chain, withKey) {
  const { path, body } = request(settings, chain);
  return [
    `curl ${shell(new URL(path, document.baseURI).href)}`,
    `  -H 'Content-Type: application/json'`,
    ...(withKey ? [`  -H "Authorization: Bearer $DECODEKIT_API_KEY"`] : []),
    `  -d ${shell(JSON.stringify(body))}`,
  ].join(" \\\n");
}

function command(settings, chain) {
  const processors = texts(live(chain));
  const criteria = texts(live(settings.stopping));
  if (!processors || !criteria) return TWICE;
  if (settings.mode === "raw")
    return "# The command line puts a prompt through the chat template; for raw text use Python or curl.";
  if (settings.prompt.startsWith("-"))
    return "# The command line reads a text that begins with - as an option; use Python or curl.";
  return [
    `decodekit generate ${shell(settings.model)} ${shell(settings.prompt)}`,
    ...processors.map((text) => `  -p ${shell(text)}`),
    ...criteria.map((text) => `  -c ${shell(text)}`),
    `  --max-new-tokens ${settings.max_tokens} --seed ${settings.seed}`,
  ].join(" \\\n");
}

/** Entries as the text that decodekit reads; null where it could not tell two of them apart. */
function texts(entries) {
  if (new Set(entries.map(({ name }) => name)).size < entries.length) return null;
  return entries.flatMap(({ name, ...options }) => {
    const parts = Object.entries(options).map(([key, value]) => `${name}.${key}=${JSON.stringify(value)}`);
    return parts.length ? parts : [name];
  });
}

const quoted = (text) => JSON.stringify(text); // a text of JSON is one of Python too

/** A value of JSON as Python writes it. */
function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object")
    return `{${Object.entries(value)
      .map(([key, item]) => `${quoted(key)}: ${literal(item)}`)
      .join(", ")}}`;
  return JSON.stringify(value);
}

/** A word for a POSIX shell. */
const shell = (text) =>
  /^[A-Za-z0-9_./:=@-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
