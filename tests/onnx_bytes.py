"""ONNX files by hand: the wire encoding of protocol buffers, for files that no library would write."""

import json
import shutil

FLOAT, INT64, INT32, FLOAT16 = 1, 7, 6, 10


def varint(number):
    number &= (1 << 64) - 1  # negative numbers are written as 64 bits
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    """One field: a whole number, or what has a length: text, bytes, a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(number, values):
    return b"".join(field(number, value) for value in values)


def dims(*sizes):
    """A shape, of numbers and symbols."""
    return fields(1, (field(1 if isinstance(d, int) else 2, d) for d in sizes))


def value(name, shape, type=FLOAT):
    """An input or output."""
    return field(1, name) + field(2, field(1, field(1, type) + field(2, dims(*shape))))


def tensor(name, shape, type=FLOAT, raw=None, external=None):
    """A constant, its bytes here or said to be elsewhere by keys and values."""
    out = fields(1, shape) + field(2, type) + field(8, name)
    if raw is not None:
        out += field(9, raw)
    if external is not None:
        out += fields(13, (field(1, k) + field(2, v) for k, v in external)) + field(14, 1)
    return out


def node(operator, inputs, outputs, domain="", attributes=(), **numbers):
    """A call; attributes are encoded ones, numbers are attributes that are whole numbers."""
    attributes = [*attributes, *(field(1, k) + field(3, v) + field(20, 2) for k, v in numbers.items())]
    out = fields(1, inputs) + fields(2, outputs) + field(3, f"a {operator}") + field(4, operator)
    return out + fields(5, attributes) + (field(7, domain) if domain else b"")


def function(domain, name, nodes):
    return field(1, name) + fields(7, nodes) + field(10, domain)


def graph(nodes=(), inputs=(), outputs=(), constants=()):
    return fields(1, nodes) + fields(5, constants) + fields(11, inputs) + fields(12, outputs)


def model(*, functions=(), extra=b"", **parts):
    """A whole file; parts are those of a graph."""
    opset = field(8, field(1, "") + field(2, 20))
    return (
        field(1, 10) + field(2, "by hand") + field(7, graph(**parts)) + opset + fields(25, functions) + extra
    )


def decoder(*, layers=1, attention="Concat", inputs=None, nodes=(), logits=("B", "T", 10), **changed):
    """The inputs and outputs of a decoder of one head of 8, and a node a cache; the rest is not there.

    inputs   name -> (shape, type), besides the cache; None: input_ids, attention_mask, position_ids
    changed  name -> (shape, type) of a cache input or output, or None to leave it out
    """
    if inputs is None:
        inputs = {
            "input_ids": (("B", "T"), INT64),
            "attention_mask": (("B", "P + T"), INT64),
            "position_ids": (("B", "T"), INT64),
        }
    caches = {}
    for n in range(layers):
        for side in ("key", "value"):
            caches[f"past_key_values.{n}.{side}"] = (("B", 1, "P", 8), FLOAT)
            caches[f"present.{n}.{side}"] = (("B", 1, "P + T", 8), FLOAT)
    caches = {name: spec for name, spec in (caches | changed).items() if spec is not None}
    past = {name: spec for name, spec in caches.items() if name.startswith("past")}
    present = {name: spec for name, spec in caches.items() if not name.startswith("past")}
    made = [_keeps(attention, n) for n in range(layers)]
    return model(
        nodes=[*nodes, *(one for layer in made for one in layer)],
        inputs=[value(name, *spec) for name, spec in (inputs | past).items()],
        outputs=[value("logits", logits), *(value(name, *spec) for name, spec in present.items())],
    )


def _keeps(attention, n):
    """What carries the cache of a layer from past to present."""
    past = [f"past_key_values.{n}.{side}" for side in ("key", "value")]
    present = [f"present.{n}.{side}" for side in ("key", "value")]
    if attention in ("GroupQueryAttention", "turning GroupQueryAttention"):
        turns = int(attention != "GroupQueryAttention")
        inputs, outputs = ["q", "k", "v", *past, "lengths", "total"], ["out", *present]
        return [node("GroupQueryAttention", inputs, outputs, "com.microsoft", do_rotary=turns)]
    return [node(attention, [p, "new"], [q], axis=2) for p, q in zip(past, present, strict=True)]


CONFIG = {"num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 10, "max_position_embeddings": 64}


def write_folder(path, tokenizer_file):
    """What an exporter could have written: a graph without weights, its configurations, a tokenizer."""
    path.mkdir(parents=True)
    shutil.copy(tokenizer_file, path / "tokenizer.json")
    (path / "model.onnx").write_bytes(decoder())
    write_json(path / "config.json", **CONFIG)
    write_json(path / "generation_config.json", eos_token_id=3)
    return path


def write_json(path, **content):
    path.write_text(json.dumps(content))
