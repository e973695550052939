"""Talking HTTP with a server: documents, streams of events, and what goes wrong in words."""

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from selfdraft.config import require
from selfdraft.errors import ConfigError, PromptError, SelfdraftError, ServerError

# A server that is there answers a connection at once; what it writes may take any time.
_TIMEOUT = httpx2.Timeout(10.0)
_STREAM_TIMEOUT = httpx2.Timeout(10.0, read=None)

_END = "[DONE]"


class ServerClient:
    """One server, by its address."""

    def __init__(self, url: str, api_key: str | None) -> None:
        require(
            url.startswith(("http://", "https://")),
            f"the server's address is {url!r}: give http://HOST:PORT",
        )
        require(
            api_key is None or (api_key.isascii() and api_key.isprintable()),
            "the API key has characters that no key can have: copy it again",
        )
        self.url = url.rstrip("/").removesuffix("/v1")
        self._has_key = api_key is not None
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        try:
            self._client = httpx2.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT)
        except httpx2.InvalidURL as error:
            raise ConfigError(f"the server's address is {url!r} ({error}): correct it") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str) -> dict[str, Any]:
        """The JSON document at `path`.

        Raises:
            SelfdraftError: there is none, for the reason it says.
        """
        with self._reported():
            response = self._client.get(path)
            self._require_success(response)
        return self._document(response.text)

    def events(self, path: str, body: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        """The events that the server sends in answer to `body`, as they come.

        Closing the generator closes the connection, and so ends the request.

        Raises:
            SelfdraftError: the server refuses, or ends the stream before its last event.
        """
        request = self._client.stream(
            "POST",
            path,
            content=json.dumps(body),
            headers={"Content-Type": "application/json", "Accept": "text/event-stream"},
            timeout=_STREAM_TIMEOUT,
        )
        with self._reported(), request as response:
            self._require_success(response)
            for event in httpx2.EventSource(response):
                if event.data == _END:
                    return
                document = self._document(event.data)
                if "error" in document:
                    raise ServerError(f"the server gave up: {_message(document)}")
                yield document
        raise ServerError("the connection ended before the answer did: ask again")

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Errors of the connection, in words."""
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise ServerError(
                f"no server answers at {self.url} ({error}): start one with `selfdraft serve "
                "MODEL`, or correct --url"
            ) from error
        except httpx2.TimeoutException as error:
            raise ServerError(f"the server at {self.url} does not answer: try again") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ServerError(
                f"the connection to {self.url} broke ({error}): try again, or correct --url"
            ) from error

    def _require_success(self, response: httpx2.Response) -> None:
        if response.status_code == httpx2.codes.OK:
            return
        response.read()
        raise self._refusal(response)

    def _refusal(self, response: httpx2.Response) -> SelfdraftError:
        """What a status other than 200 means, and what helps."""
        try:
            document = self._document(response.text)
        except ServerError as error:
            return ServerError(f"{error} (it answers {response.status_code})")
        message, status = _message(document), response.status_code
        wait = response.headers.get("Retry-After")
        later = f"try again in {wait} s" if wait else "try again later"
        match status:
            case 401 if self._has_key:
                return ServerError(
                    f"the server does not accept the API key ({message}): correct it"
                )
            case 401:
                return ServerError(
                    f"the server asks for an API key ({message}): give --api-key, or set "
                    "SELFDRAFT_API_KEY"
                )
            case 429:
                return ServerError(f"the server is busy ({message}): {later}")
            case 503:
                return ServerError(f"the server is not ready ({message}): {later}")
            case _ if status >= 500:
                return ServerError(f"the server failed with {status} ({message}): see its log")
        match document:
            case {"error": {"param": "messages"}}:
                return PromptError(message)
        return ConfigError(f"the server refuses: {message}")

    def _document(self, text: str) -> dict[str, Any]:
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if isinstance(document, dict):
            return document
        raise ServerError(f"what is at {self.url} is no OpenAI-compatible server: correct --url")


def _message(document: dict[str, Any]) -> str:
    match document:
        case {"error": {"message": str(message)}}:
            return message
    return json.dumps(document)
