"""
The limit: a plain Python loop over an onnxruntime session that does nothing but decode greedily.

Past and present are one memory; ids, lengths and logits are bound once; the next token is an
argmax. It reads the two kinds of folder that have a cache in place: decodekit's bundles, and
those of onnxruntime-genai's model builder, whose graph wants a longer mask at every step.
"""

import json
import time
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime
import protocol


class Bare(protocol.Worker):
    packages = ("onnxruntime", "numpy")

    def load(self, folder):
        folder = Path(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = protocol.THREADS
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=providers)
        self.shape = cache_shape(folder)

    def stream(self, prompt, tokens):
        return protocol.clocked(self._greedy(prompt, tokens))

    def batch(self, prompts, tokens):
        """All prompts one after another, then all rows together: the seconds and tokens of that."""
        rows = self._rows(prompts, tokens)
        columns = [[rows.prefill(row, prompt) for row, prompt in enumerate(prompts)]]
        began = time.perf_counter()
        columns += islice(rows.decode(columns[0]), tokens - 1)
        seconds = time.perf_counter() - began
        return {"decode": seconds, "tokens": len(prompts) * (tokens - 1), "ids": list(zip(*columns))}

    def _greedy(self, prompt, tokens):
        rows = self._rows([prompt], tokens)
        id = rows.prefill(0, prompt)
        yield id
        for (following,) in islice(rows.decode([id]), tokens - 1):
            yield following

    def _rows(self, prompts, tokens):
        longest = max(map(len, prompts)) + tokens
        return Rows(self.session, *self.shape, len(prompts), capacity=1 << (longest - 1).bit_length())


class Rows:
    """Sequences of different lengths in one cache, extended by one call a step."""

    def __init__(self, session, layers, kv_heads, head_dim, rows, capacity):
        self._session = session
        self._inputs = {i.name for i in session.get_inputs()}
        self._vocabulary = session.get_outputs()[0].shape[-1]
        self._cache = np.zeros((layers, 2, rows, kv_heads, capacity, head_dim), np.float32)
        self._lengths = np.zeros(rows, np.int32)
        self._fed = {}

    def prefill(self, row, prompt):
        """The id that follows a prompt, whose keys and values are written into that row."""
        count, wanted = len(prompt), 1 if "logit_positions" in self._inputs else len(prompt)
        logits = np.empty((1, wanted, self._vocabulary), np.float32)
        binding = self._bind(slice(row, row + 1), logits)
        feeds = {
            "input_ids": np.asarray([prompt], np.int64),
            "position_ids": np.arange(count, dtype=np.int64)[None],
            "lengths": np.asarray([count], np.int32),
            "total_length": np.asarray(count, np.int32),
            "logit_positions": np.asarray([count - 1], np.int64),
            "attention_mask": np.ones((1, count), np.int64),
        }
        self._feed(binding, feeds)
        self._session.run_with_iobinding(binding)
        self._lengths[row] = count
        return int(logits[0, -1].argmax())

    def decode(self, firsts):
        """The next ids of all rows, [B] each, without end; `firsts` are the ids behind the prompts."""
        lengths, rows = self._lengths, len(self._lengths)
        ids, positions = np.asarray(firsts, np.int64)[:, None], np.zeros((rows, 1), np.int64)
        total, logits = np.zeros((), np.int32), np.empty((rows, 1, self._vocabulary), np.float32)
        binding = self._bind(slice(None), logits)
        feeds = {
            "input_ids": ids,
            "position_ids": positions,
            "lengths": lengths,
            "total_length": total,
            "logit_positions": np.zeros(1, np.int64),
        }
        self._feed(binding, feeds)
        while True:
            positions[:, 0] = lengths
            lengths += 1
            total[...] = lengths.max()
            if "attention_mask" in self._inputs:
                mask = (np.arange(total) < lengths[:, None]).astype(np.int64)
                self._feed(binding, {"attention_mask": mask})
            self._session.run_with_iobinding(binding)
            ids[:, 0] = logits[:, 0].argmax(axis=-1)
            yield ids[:, 0].tolist()

    def _bind(self, rows, logits):
        binding = self._session.io_binding()
        for layer, sides in enumerate(self._cache):
            for side, slab in zip(("key", "value"), sides, strict=True):
                part = slab[rows]
                place = ("cpu", 0, np.float32, part.shape, part.ctypes.data)
                binding.bind_input(f"past_key_values.{layer}.{side}", *place)
                binding.bind_output(f"present.{layer}.{side}", *place)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        return binding

    def _feed(self, binding, arrays):
        """Bind those arrays that the graph has inputs for."""
        self._fed |= arrays  # a binding knows addresses only: the arrays must outlive the call
        for name in self._inputs & arrays.keys():
            array = arrays[name]
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def cache_shape(folder):
    """Layers, key-value heads and head size, as the folder's description has them."""
    if (manifest := folder / "decodekit.json").is_file():
        cache = json.loads(manifest.read_text())["graph"]["cache"]
        return cache["layers"], cache["kv_heads"], cache["head_dim"]
    decoder = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]
    return decoder["num_hidden_layers"], decoder["num_key_value_heads"], decoder["head_size"]


if __name__ == "__main__":
    protocol.serve(Bare())
