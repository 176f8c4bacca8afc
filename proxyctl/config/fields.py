"""The types of the keys of `proxyctl.yml`: a grammar and what JSON Schema can say of it, side by side.

Pydantic takes the grammars' own words for what is wrong. Never reads a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, Tag
from pydantic_core import CoreSchema, core_schema

from proxyctl.config import grammar
from proxyctl.config import web_grammar as web
from proxyctl.config.places import NAME

MOST_PAIRS = 1000  # variables or labels of one container

LISTED, MAPPED, ALONE = "<list>", "<mapping>", "<alone>"  # tags of forms; they stand in no file


class Strict(BaseModel):
    """A mapping of a file: unknown keys are problems, and what was read never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


@dataclass(frozen=True)
class Read:
    """Metadata of a key's type: read by this grammar, described by this JSON Schema."""

    grammar: Callable[[Any], Any]
    schema: dict[str, Any]

    def __hash__(self) -> int:
        return hash(self.grammar)

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.grammar)

    def __get_pydantic_json_schema__(self, _core: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema)


def alone(grammar: Callable[[Any], Any], schema: dict[str, Any]) -> Read:
    """A list of one, written without the brackets."""
    return Read(lambda value: (grammar(value),), schema)


def like(pattern: str, *examples: str) -> dict[str, Any]:
    described: dict[str, Any] = {"type": "string", "pattern": f"^{pattern}$"}
    return described | ({"examples": list(examples)} if examples else {})


def lasting(least: str, most: str) -> Read:
    """A duration in these bounds."""
    described = like(grammar.DURATION.pattern, "500ms", "30s", "15m")
    return Read(grammar.duration(least, most), described | {"description": f"A duration, {least} to {most}."})


def counted(least: int, most: int) -> Read:
    return Read(grammar.whole(least, most), {"type": "integer", "minimum": least, "maximum": most})


def sized(least: str, most: str) -> Read:
    """A number of bytes in these bounds."""
    return Read(grammar.size_within(least, most), _SIZE | {"description": f"A size, {least} to {most}."})


def one_of(*known: str, later: tuple[str, ...] = ()) -> Read:
    return Read(grammar.choice(*known, later=later), {"enum": list(known)})


def written(default: Any, description: str | None = None) -> Any:
    """A key that may be left out: its default as a user would write it, read by the key's grammar."""
    return Field(default, description=description)


def form_of(value: object) -> str:
    """How a key that has several forms is written here."""
    return LISTED if isinstance(value, (list, tuple)) else MAPPED if isinstance(value, dict) else ALONE


def forms(expected: str) -> Discriminator:
    return Discriminator(form_of, custom_error_type="form", custom_error_message=f"write {expected}")


_TEXT: dict[str, Any] = {"type": "string"}
_SCALAR: dict[str, Any] = {"type": ["string", "number"]}
_STATUS: dict[str, Any] = {"type": ["integer", "string"], "examples": [200, "200-299"]}
_SIZE: dict[str, Any] = {"type": ["integer", "string"], "pattern": f"^{grammar.SIZE.pattern}$"}
_LISTEN: dict[str, Any] = {"type": ["integer", "string"], "examples": [80, "[::]:80"]}

Name = Annotated[str, Read(grammar.name, like(NAME.pattern, "web"))]
Line = Annotated[str, Read(grammar.line, _TEXT)]
File = Annotated[str, Read(grammar.file, _TEXT)]
FileReference = Annotated[str, Read(grammar.file_reference, like("file:.+", "file:cert.pem"))]
PageStatus = Annotated[int, Read(web.page_status, {"enum": ["413", "502", "503", "504"]})]
ErrorPages = dict[PageStatus, FileReference]
HashKey = Annotated[
    tuple[str, str], Read(web.hash_key, like("(address|uri|(cookie|header):.+)", "address", "cookie:cart"))
]
Realm = Annotated[str, Read(web.realm, {"type": "string", "maxLength": 100, "examples": ["Staging"]})]
Truth = Annotated[bool, Read(grammar.truth, {"type": "boolean"})]

Port = Annotated[int, Read(grammar.port, {"type": "integer", "minimum": 1, "maximum": 65535})]
Host = Annotated[str, Read(web.host, {"type": "string", "examples": ["shop.example.com", "*.example.com"]})]
PlainHost = Annotated[str, Read(web.plain_host, {"type": "string", "examples": ["shop.example.com"]})]
UrlPath = Annotated[str, Read(web.path, like(web.PATH.pattern, "/", "/api"))]
ProbePath = Annotated[str, Read(web.probe_path, like(web.PROBE_PATH.pattern, "/healthz"))]
RedirectedPath = Annotated[str, Read(web.redirected_path, {"type": "string", "examples": ["/old", "/old/*"]})]
Target = Annotated[str, Read(web.target, {"type": "string", "examples": ["/new", "https://shop.example.com/*"]})]
HeaderName = Annotated[str, Read(web.header_name, like(web.HEADER_NAME.pattern))]
ResponseHeaderName = Annotated[str, Read(web.response_header_name, like(web.HEADER_NAME.pattern))]
HeaderValue = Annotated[str, Read(web.header_value, _SCALAR)]
ResponseHeaderValue = Annotated[str, Read(web.response_header_value, _SCALAR)]
Method = Annotated[str, Read(web.method, {"enum": ["GET", "HEAD", "POST", "OPTIONS"]})]
Status = Annotated[tuple[int, int], Read(web.status, _STATUS)]
Listen = Annotated[str, Read(web.listen, _LISTEN)]
Network = Annotated[str, Read(web.network, {"type": "string", "examples": ["10.0.0.0/8"]})]
Size = Annotated[int, Read(grammar.size, _SIZE)]

Image = Annotated[str, Read(grammar.image, {"type": "string", "examples": ["shop/web:1.4"]})]
Word = Annotated[str, Read(grammar.block, _SCALAR)]
Words = Annotated[tuple[str, ...], Read(grammar.words, _TEXT)]
EnvironmentName = Annotated[str, Read(grammar.environment_name, like(grammar.ENVIRONMENT_NAME.pattern))]
EnvironmentEntry = Annotated[tuple[str, str], Read(grammar.environment_entry, {"type": "string"})]
LabelName = Annotated[str, Read(grammar.label_name, _TEXT)]
LabelEntry = Annotated[tuple[str, str], Read(grammar.label_entry, _TEXT)]
DockerNetwork = Annotated[str, Read(grammar.docker_network, like(grammar.DOCKER_NAME.pattern))]
Inside = Annotated[str, Read(grammar.inside, like("/.*"))]
ComposeDuration = Annotated[float, Read(grammar.compose_duration, {"type": "string", "examples": ["1m30s"]})]


def _environment_value(value: object) -> str | None:
    return None if value is None else grammar.environment_value(value)


EnvironmentValue = Annotated[
    str | None, Read(_environment_value, {"type": ["string", "number", "null"], "examples": ["env:DB_PASSWORD"]})
]

Command = Annotated[
    Annotated[tuple[Word, ...], Tag(LISTED)] | Annotated[Words, Tag(ALONE)],
    forms("a list of words, or one string"),
]
Environment = Annotated[
    Annotated[dict[EnvironmentName, EnvironmentValue], Field(max_length=MOST_PAIRS), Tag(MAPPED)]
    | Annotated[tuple[EnvironmentEntry, ...], Field(max_length=MOST_PAIRS), Tag(LISTED)],
    forms("a mapping such as LOG_LEVEL: info, or a list such as [LOG_LEVEL=info]"),
]
Labels = Annotated[
    Annotated[dict[LabelName, Word], Field(max_length=MOST_PAIRS), Tag(MAPPED)]
    | Annotated[tuple[LabelEntry, ...], Field(max_length=MOST_PAIRS), Tag(LISTED)],
    forms("a mapping such as team: shop, or a list such as [team=shop]"),
]
Networks = Annotated[
    Annotated[tuple[DockerNetwork, ...], Tag(LISTED)] | Annotated[dict[DockerNetwork, None], Tag(MAPPED)],
    forms("a list of networks"),
]


class EnvFile(Strict):
    """One in the long form."""

    path: File
    required: Annotated[bool, Read(grammar.truth, {"type": "boolean"})] = True


Files = Annotated[
    Annotated[
        tuple[
            Annotated[
                Annotated[File, Tag(ALONE)] | Annotated[EnvFile, Tag(MAPPED)],
                forms("a file's path, or a mapping with path and required"),
            ],
            ...,
        ],
        Tag(LISTED),
    ]
    | Annotated[tuple[str, ...], alone(grammar.file, _TEXT), Tag(ALONE)],
    forms("a file's path, or a list of them"),
]
Listens = Annotated[
    Annotated[tuple[Listen, ...], Tag(LISTED)] | Annotated[tuple[str, ...], alone(web.listen, _LISTEN), Tag(ALONE)],
    forms("a port, or a list of ports and addresses"),
]
Statuses = Annotated[
    Annotated[tuple[Status, ...], Tag(LISTED)]
    | Annotated[tuple[tuple[int, int], ...], alone(web.status, _STATUS), Tag(ALONE)],
    forms("a status such as 200, or a range such as 200-299, or a list of them"),
]
