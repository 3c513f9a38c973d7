"""
llama.cpp through its C functions: what llama_cpp.Llama adds in Python is left out, and the next
token is an argmax over its logits where they lie, as in the bare loop.
"""

import time
from pathlib import Path

import llama_cpp
import numpy as np
import protocol

PREFILL = 2048  # tokens a call may have
ROOM = 16_384  # tokens in the cache, of all sequences together


class LlamaCpp(protocol.Worker):
    packages = ("llama-cpp-python",)

    def load(self, folder):
        path = str(Path(folder)).encode()
        self._model = llama_cpp.llama_model_load_from_file(path, llama_cpp.llama_model_default_params())
        if not self._model:
            raise OSError(f"{folder}: llama.cpp cannot load it")
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_seq_max = ROOM, PREFILL, 32
        settings.n_threads = settings.n_threads_batch = protocol.THREADS
        settings.kv_unified = True
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._batch = llama_cpp.llama_batch_init(PREFILL, 0, 1)

    def stream(self, prompt, tokens):
        return protocol.clocked(self._greedy(prompt, tokens))

    def batch(self, prompts, tokens):
        """All prompts one after another, then all sequences together: the seconds and tokens of that."""
        self._forget()
        columns = [[self._prefill(row, prompt) for row, prompt in enumerate(prompts)]]
        began = time.perf_counter()
        for step in range(tokens - 1):
            places = [(len(p) + step, row) for row, p in enumerate(prompts)]
            columns.append(self._decode(columns[-1], places, range(len(prompts))))
        seconds = time.perf_counter() - began
        return {"decode": seconds, "tokens": len(prompts) * (tokens - 1), "ids": list(zip(*columns))}

    def _greedy(self, prompt, tokens):
        self._forget()
        id = self._prefill(0, prompt)
        yield id
        for position in range(len(prompt), len(prompt) + tokens - 1):
            (id,) = self._decode([id], [(position, 0)], [0])
            yield id

    def _prefill(self, row, prompt):
        """The id that follows a prompt of that sequence."""
        for start in range(0, len(prompt), PREFILL):
            part = prompt[start : start + PREFILL]
            places = [(position, row) for position in range(start, start + len(part))]
            (id,) = self._decode(part, places, [len(part) - 1])
        return id

    def _decode(self, ids, places, wanted):
        """The best next ids behind the `wanted` of those tokens; places are (position, sequence)."""
        batch, wanted = self._batch, list(wanted)
        batch.n_tokens = len(ids)
        for i, (id, (position, sequence)) in enumerate(zip(ids, places, strict=True)):
            batch.token[i], batch.pos[i] = id, position
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, sequence, i in wanted
        if llama_cpp.llama_decode(self._context, batch):
            raise RuntimeError("llama_decode failed")
        return [int(self._logits(i).argmax()) for i in wanted]

    def _logits(self, i):
        pointer = llama_cpp.llama_get_logits_ith(self._context, i)
        return np.ctypeslib.as_array(pointer, (self._vocabulary,))

    def _forget(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)


if __name__ == "__main__":
    protocol.serve(LlamaCpp())
