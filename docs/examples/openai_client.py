"""
The client of OpenAI, three ways, against `decodekit serve tagline`.

    export OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none
    python docs/examples/openai_client.py
"""

import asyncio

import openai

MESSAGES = [{"role": "user", "content": "Give me a tagline for a new coffee shop."}]


def ask() -> str:
    """An answer as a whole; `decodekit` holds what only this server knows."""
    answer = openai.OpenAI().chat.completions.create(
        model="tagline",
        messages=MESSAGES,
        seed=1,
        extra_body={
            "decodekit": {"processors": [{"name": "min_p", "p": 0.1}, {"name": "temperature", "t": 0.9}]}
        },
    )
    return answer.choices[0].message.content or ""


def stream() -> str:
    """The same, piece by piece."""
    chunks = openai.OpenAI().chat.completions.create(model="tagline", messages=MESSAGES, seed=1, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def many() -> list[str]:
    """Eight at once; the engine decodes them together."""
    async with openai.AsyncOpenAI() as client:
        answers = await asyncio.gather(
            *(
                client.chat.completions.create(model="tagline", messages=MESSAGES, seed=seed)
                for seed in range(8)
            )
        )
    return [answer.choices[0].message.content or "" for answer in answers]


if __name__ == "__main__":
    print(ask())
    print(stream())
    print(*asyncio.run(many()), sep="\n")
