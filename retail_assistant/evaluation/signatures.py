"""Signatures: who vouches for a champion, with keys of the retailer's own and no network.

What is signed is a small file that names all others by their hashes: an event of the champions'
history (the manifests of adapter and base model, which list every file), or a bundle's
`SHA256SUMS`. A signature is a Sigstore bundle in JSON, made by the package `model-signing` of the
OpenSSF (https://github.com/sigstore/model-transparency) with an elliptic-curve key; its program
`model_signing verify key` checks it without this project.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from retail_assistant.settings import Settings
from retail_assistant.storage import StorageError, write_atomically
from retail_assistant.storage.bucket import fetch, publish

SUFFIX = ".sig"
KEY_FILES = ("*.pem", "*.pub")
_REASON_CHARACTERS = 200


class SignatureError(StorageError):
    """Something cannot be signed, or is not signed by a key that is trusted; says why."""


def can_sign(settings: Settings) -> bool:
    """Whether there is a key to sign with."""
    return settings.signing_key is not None


def must_be_signed(settings: Settings) -> bool:
    """Whether champions serve only if a trusted key has signed them."""
    return settings.trusted_keys is not None


def signature_of(content: bytes, name: str, settings: Settings) -> str:
    """The signature of a file's content.

    Args:
        content: of the file.
        name: of the file.
        settings: where the key is.

    Raises:
        SignatureError: there is no key, it cannot be used, or the package is missing.
    """
    if settings.signing_key is None:
        raise SignatureError("RETAIL_SIGNING_KEY is not set; allowed: a file with a private key")
    password = settings.signing_key_password
    with _as_file(content, name) as path, _explained("cannot sign"):
        from model_signing import signing

        signature = path.with_name(path.name + SUFFIX)
        config = signing.Config().use_elliptic_key_signer(
            private_key=settings.signing_key,
            # As the library's own library takes it: bytes.
            password=password.get_secret_value().encode() if password else None,
        )
        config.sign(path, signature)
        return signature.read_text()


def sign_file(path: Path, settings: Settings) -> None:
    """Leave a file's signature beside it, where there is a key.

    Raises:
        SignatureError: the key cannot be used.
    """
    if can_sign(settings):
        fetch(path)
        signature = path.with_name(path.name + SUFFIX)
        write_atomically(signature, signature_of(path.read_bytes(), path.name, settings))
        publish(signature)


def require_signed(content: bytes, name: str, signature: str, settings: Settings) -> None:
    """Refuse content that no trusted key has signed.

    Args:
        content: of the file.
        name: of the file.
        signature: of it.
        settings: where the trusted keys are.

    Raises:
        SignatureError: says what is wrong.
    """
    reasons = []
    with _as_file(content, name) as path:
        given = path.with_name(path.name + SUFFIX)
        given.write_text(signature)
        for key in trusted_keys(settings):
            try:
                _verify(path, given, key)
            except SignatureError as error:
                reasons.append(f"{key.name}: {error}")
            else:
                return
    raise SignatureError(f"{name} is not signed by a trusted key ({'; '.join(reasons)})")


def trusted_keys(settings: Settings) -> list[Path]:
    """The public keys that are trusted.

    Raises:
        SignatureError: there are none.
    """
    place = settings.trusted_keys
    if place is None or place.is_file():
        return [place] if place else []
    found = sorted(path for pattern in KEY_FILES for path in place.glob(pattern))
    if not found:
        raise SignatureError(
            f"RETAIL_TRUSTED_KEYS={place} holds no key; allowed: public keys, {' '.join(KEY_FILES)}"
        )
    return found


def _verify(path: Path, signature: Path, key: Path) -> None:
    with _explained("no"):
        from model_signing import verifying

        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(path, signature)


@contextmanager
def _as_file(content: bytes, name: str) -> Iterator[Path]:
    """The library signs files: the content as one, that nobody changes meanwhile."""
    with TemporaryDirectory(prefix="retail-signing-") as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        yield path


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Whatever the libraries raise, in one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise SignatureError(
            f"{what}: the package {error.name} is missing; install model-signing"
        ) from error
    except Exception as error:
        said = " ".join(str(error).split())[:_REASON_CHARACTERS] or type(error).__name__
        raise SignatureError(f"{what}: {said}") from error
