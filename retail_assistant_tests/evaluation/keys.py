"""Keys for signatures, as `openssl ecparam -name prime256v1 -genkey` makes them."""

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


def key_pair(folder: Path, name: str, password: str | None = None) -> tuple[Path, Path]:
    """A private and a public key, the same ones for the same name in a folder."""
    private, public = folder / f"{name}-private.pem", folder / f"{name}.pem"
    if not private.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        closed: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            closed = serialization.BestAvailableEncryption(password.encode())
        private.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, closed)
        )
        public.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    return private, public
