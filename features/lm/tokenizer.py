"""Text to token ids and back, through the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from features.extras import require
from features.lm.gguf_file import GGUFSource
from features.strict_keys import KnownKeys

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

_SPECIAL, _USER_DEFINED = 3, 4  # token_type of GGUF
_WITH_BOS = {"llama-bpe"}
"""Pre-tokenizers whose models begin texts with the BOS token where a file doesn't say; as in llama.cpp."""

# Of a byte-level BPE vocabulary, where nothing is split or joined by other rules.
_KEYS = KnownKeys(
    read=(r"tokenizer\.ggml\.(model|pre|tokens|merges|token_type|bos_token_id|add_bos_token)",),
    harmless=(
        r"tokenizer\.ggml\.(scores|token_type_count|add_eos_token|add_sep_token|add_space_prefix)",
        r"tokenizer\.ggml\.\w+_token_ids?",
        r"tokenizer\.(ggml\.)?(chat_templates?(\.\w+)?|huggingface\.json)",
    ),
    fixed={r"tokenizer\.ggml\.(remove_extra_whitespaces|escape_whitespaces)": (False,)},
)
_LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Tokenizer:
    """Token ids of texts; `bos` is put before every text where the model was trained so."""

    def __init__(self, backend: Backend, bos: int | None = None) -> None:
        self.backend = backend
        self.bos = bos

    def encode(self, text: str, *, bos: bool = True) -> list[int]:
        """Ids of one text."""
        ids = self.backend.encode(text, add_special_tokens=False).ids
        return [self.bos, *ids] if bos and self.bos is not None else ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""
        return self.backend.decode(list(ids), skip_special_tokens=False)

    def word(self, token: int) -> str:
        """One token as text, its leading space included."""
        piece = self.backend.id_to_token(int(token)) or ""
        if piece.startswith("▁"):
            return " " + piece[1:]
        return self.backend.decode([int(token)], skip_special_tokens=False)

    def single(self, word: str) -> int:
        """The one token of a word, written as it stands in running text (" Monday" has a space).

        Raises: ValueError if the word is split, with its pieces and what to do.
        """
        ids = self.encode(word, bos=False)
        if len(ids) > 1 and (stripped := word.lstrip()) != word:
            # SentencePiece models write the space into the token even where a text begins.
            other = self.encode(stripped, bos=False)
            if len(other) == 1 and self.word(other[0]) == word:
                return other[0]
        if len(ids) != 1:
            raise ValueError(
                f"the tokenizer splits {word!r} into {[self.word(i) for i in ids]}: the method needs one "
                "token per name. Use other names (an abbreviation, or with or without the leading space), "
                "or another model"
            )
        return ids[0]


def from_file(path: Path, bos_token: str | None = None) -> Tokenizer:
    """From a tokenizer.json of the `tokenizers` library."""
    tokenizers = require("tokenizers")
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"{path} is no tokenizer.json: {error}") from error
    return Tokenizer(backend, None if bos_token is None else backend.token_to_id(bos_token))


def from_gguf(source: GGUFSource) -> Tokenizer:
    """Byte-level BPE from the tokens and merges in a GGUF header.

    Raises: ValueError for other kinds of tokenizer; a tokenizer.json beside the file is then used instead.
    """
    tokenizers = require("tokenizers")
    kind, pre = source.key("tokenizer.ggml.model"), source.key("tokenizer.ggml.pre", "default")
    steps = tokenizers.pre_tokenizers
    plain = steps.ByteLevel(add_prefix_space=False)
    known = {
        "smollm": [steps.Digits(individual_digits=True), plain],
        "gpt-2": [plain],
        "llama-bpe": [
            steps.Split(tokenizers.Regex(_LLAMA3_PATTERN), "isolated"),
            steps.ByteLevel(add_prefix_space=False, use_regex=False),
        ],
    }
    if kind != "gpt2" or not isinstance(pre, str) or pre not in known:
        raise ValueError(
            f"{source.path}: tokenizer {kind!r} with pre-tokenizer {pre!r}; built from the file are 'gpt2' "
            f"with {', '.join(known)}. Put the model's tokenizer.json beside the file: it is used instead"
        )
    _KEYS.check(source.path, source.small_keys("tokenizer."))
    words, pairs = source.key("tokenizer.ggml.tokens"), source.key("tokenizer.ggml.merges")
    types = source.key("tokenizer.ggml.token_type")
    try:
        merges = [tuple(pair.split(" ", 1)) for pair in pairs]
        vocabulary = {word: number for number, word in enumerate(words)}
        model = tokenizers.models.BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe")
        kinds = list(zip(words, types, strict=True))
        special = [word for word, kind in kinds if kind == _SPECIAL]
        whole = [word for word, kind in kinds if kind == _USER_DEFINED]
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"{source.path}: tokens and merges don't fit each other: {error}") from error
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = steps.Sequence(known[pre])
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens(special)
    backend.add_tokens([tokenizers.AddedToken(word, normalized=False) for word in whole])
    return Tokenizer(backend, bos_of_gguf(source))


def bos_of_gguf(source: GGUFSource) -> int | None:
    """The token that texts begin with; None where the model was trained without.

    Raises: ValueError where the header says that there is one, and not which, or one of no vocabulary.
    """
    default = source.key("tokenizer.ggml.pre", "default") in _WITH_BOS
    wanted = source.key("tokenizer.ggml.add_bos_token", default)
    if not isinstance(wanted, bool):
        raise ValueError(
            f"{source.path}: key 'tokenizer.ggml.add_bos_token' is {wanted!r}, expected true or false"
        )
    if not wanted:
        return None
    bos, words = source.key("tokenizer.ggml.bos_token_id"), source.shape("token_embd.weight")[0]
    if type(bos) is not int or not 0 <= bos < words:
        raise ValueError(
            f"{source.path}: key 'tokenizer.ggml.bos_token_id' is {bos!r}, expected 0 to {words - 1}"
        )
    return bos
