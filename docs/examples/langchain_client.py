"""
LangChain against `decodekit serve tagline`: a chain of its own kind, whole and piece by piece.

    pip install langchain-openai
    export OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none
    python docs/examples/langchain_client.py
"""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

PROMPT = ChatPromptTemplate.from_messages([("user", "Give me a tagline for {what}.")])
MODEL = ChatOpenAI(
    model="tagline",
    seed=1,
    max_tokens=64,
    extra_body={
        "decodekit": {"processors": [{"name": "min_p", "p": 0.1}, {"name": "temperature", "t": 0.9}]}
    },
)
SLOGAN = PROMPT | MODEL | StrOutputParser()


if __name__ == "__main__":
    print(SLOGAN.invoke({"what": "a new coffee shop"}))
    print(*SLOGAN.stream({"what": "a new coffee shop"}), sep="")
    print(*SLOGAN.batch([{"what": "a bakery"}, {"what": "a yoga studio"}]), sep="\n")
