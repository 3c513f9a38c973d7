"""transformers: `generate` of the checkpoint itself, on PyTorch's CPU kernels."""

import protocol
import torch
from generate_clock import greedy
from transformers import AutoModelForCausalLM


class Transformers(protocol.Worker):
    packages = ("transformers", "torch")

    def load(self, folder):
        torch.set_num_threads(protocol.THREADS)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def stream(self, prompt, tokens):
        return greedy(self._model, prompt, tokens)


if __name__ == "__main__":
    protocol.serve(Transformers())
