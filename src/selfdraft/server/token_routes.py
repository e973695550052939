"""The routes between text and tokens."""

from typing import cast

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from selfdraft.errors import PromptError
from selfdraft.server.backend import BackendDep
from selfdraft.server.errors import invalid
from selfdraft.server.protocol import DetokenizeBody, TokenizeBody
from selfdraft.server.strict_json import StrictJsonRoute
from selfdraft.text.prompt import Prompt, encode_prompt

router = APIRouter(route_class=StrictJsonRoute)


class Tokens(BaseModel):
    """A text's tokens."""

    tokens: list[int]
    count: int
    max_model_len: int | None


class Text(BaseModel):
    """The text of some tokens."""

    prompt: str


@router.post("/tokenize")
async def tokenize(body: TokenizeBody, backend: BackendDep) -> Tokens:
    """The tokens of a prompt, or of messages as the model gets them."""
    preparer = backend.preparer
    backend.require_model(body.model)
    prompt: Prompt
    if body.prompt is not None and body.messages is None:
        prompt = body.prompt
    elif body.messages is not None and body.prompt is None:
        prompt = [message.for_template() for message in body.messages]
    else:
        raise invalid("give either prompt or messages", param="prompt")
    try:
        encoded = await run_in_threadpool(encode_prompt, prompt, preparer.engine.tokenizer)
    except PromptError as error:
        raise invalid(
            str(error), param="prompt" if body.messages is None else "messages"
        ) from error
    token_ids = encoded.token_ids
    return Tokens(tokens=token_ids, count=len(token_ids), max_model_len=preparer.max_model_len)


@router.post("/detokenize")
async def detokenize(body: DetokenizeBody, backend: BackendDep) -> Text:
    """The text of tokens, special ones included."""
    engine = backend.preparer.engine
    backend.require_model(body.model)
    size = engine.target.vocab_size
    wrong = next((token for token in body.tokens if not 0 <= token < size), None)
    if wrong is not None:
        raise invalid(
            f"token id {wrong} is not in the vocabulary: give 0 to {size - 1}", param="tokens"
        )
    if engine.tokenizer is None:
        raise invalid("the model has no tokenizer", param="tokens")
    text = await run_in_threadpool(
        engine.tokenizer.decode, body.tokens, clean_up_tokenization_spaces=False
    )
    return Text(prompt=cast(str, text))
