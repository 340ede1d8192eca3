"""Text in a model that is not UTF-8: protobuf hands it over as bytes, and nothing that writes takes it back."""

from functools import cache

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from .errors import TamagoError
from .tensor_data import shown

# Text for people: unreadable characters in it are replaced. Any other text is a name, and must be right.
_FREE = frozenset(("doc_string", "producer_name", "producer_version", "value"))


def settle_text(message: Message) -> None:
    """Replaces what is not UTF-8 in descriptions and metadata, in the message and all those inside it.

    Raises:
        TamagoError: M007 if a name is not UTF-8.
    """
    waiting = [message]
    while waiting:
        here = waiting.pop()
        texts, lists, parts, repeated = _fields(type(here))
        for name in texts:
            text = getattr(here, name)
            if type(text) is bytes:
                setattr(here, name, _readable(name, text))
        for name in lists:
            for text in getattr(here, name):
                if type(text) is bytes:
                    _readable(name, text)
        waiting += [getattr(here, name) for name in parts if here.HasField(name)]
        for name in repeated:
            waiting += getattr(here, name)


@cache
def _fields(kind: type[Message]) -> tuple[tuple[str, ...], ...]:
    """The fields that hold a text, texts, a message, messages."""
    fields = kind.DESCRIPTOR.fields
    empty = kind()
    texts = [field.name for field in fields if field.type == FieldDescriptor.TYPE_STRING]
    parts = [field.name for field in fields if field.type == FieldDescriptor.TYPE_MESSAGE]
    return (
        tuple(name for name in texts if isinstance(getattr(empty, name), str)),
        tuple(name for name in texts if not isinstance(getattr(empty, name), str)),
        tuple(name for name in parts if isinstance(getattr(empty, name), Message)),
        tuple(name for name in parts if not isinstance(getattr(empty, name), Message)),
    )


def _readable(field: str, text: bytes) -> str:
    if field in _FREE:
        return text.decode("utf-8", "replace")
    todo = "export the model again with names in UTF-8"
    raise TamagoError("M007", f"the {field} {shown(text)} is not UTF-8", where="a name in the model", todo=todo)
