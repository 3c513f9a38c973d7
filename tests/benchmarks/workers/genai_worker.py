"""onnxruntime-genai: its generator loop over a folder of its own model builder."""

import json

import onnxruntime_genai
import protocol


class Genai(protocol.Worker):
    packages = ("onnxruntime-genai", "onnxruntime")

    def load(self, folder, threads=protocol.THREADS):
        """With 0 threads: as many as it takes by itself."""
        config = onnxruntime_genai.Config(folder)
        options = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": options}}))
        self._model = onnxruntime_genai.Model(config)

    def stream(self, prompt, tokens):
        return protocol.clocked(self._greedy(prompt, tokens))

    def _greedy(self, prompt, tokens):
        params = onnxruntime_genai.GeneratorParams(self._model)
        params.set_search_options(do_sample=False, max_length=len(prompt) + tokens)
        generator = onnxruntime_genai.Generator(self._model, params)
        generator.append_tokens(prompt)
        for _ in range(tokens):
            generator.generate_next_token()
            yield int(generator.get_next_tokens()[0])


if __name__ == "__main__":
    protocol.serve(Genai())
