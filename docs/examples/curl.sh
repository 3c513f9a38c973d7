#!/bin/sh
# Against `decodekit serve tagline`: an answer, a stream, the tokens of a prompt, how probable a text is.
set -eu
url=${DECODEKIT_URL:-http://127.0.0.1:8000}

ask() {
  curl --silent --show-error --fail --no-buffer "$url$1" -H 'Content-Type: application/json' -d "$2"
  echo
}

ask /v1/chat/completions '{"model": "tagline", "seed": 1, "messages": [{"role": "user", "content": "Write a slogan."}]}'
ask /v1/chat/completions '{"model": "tagline", "seed": 1, "stream": true,
  "messages": [{"role": "user", "content": "Write a slogan."}],
  "decodekit": {"processors": [{"name": "top_k", "k": 8}, {"name": "temperature", "t": 0.7}]}}'
ask /tokenize '{"model": "tagline", "prompt": "Write a slogan."}'
ask /v1/score '{"model": "tagline", "text": "Fresh bread, every day."}'
