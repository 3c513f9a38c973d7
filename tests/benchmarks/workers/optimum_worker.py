"""optimum: `generate` of its own export, on onnxruntime. Runs in an environment of its own."""

import onnxruntime
import protocol
from generate_clock import greedy
from optimum.onnxruntime import ORTModelForCausalLM


class Optimum(protocol.Worker):
    packages = ("optimum-onnx", "transformers", "onnxruntime")

    def load(self, folder):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = protocol.THREADS
        self._model = ORTModelForCausalLM.from_pretrained(folder, session_options=options)

    def stream(self, prompt, tokens):
        return greedy(self._model, prompt, tokens)


if __name__ == "__main__":
    protocol.serve(Optimum())
