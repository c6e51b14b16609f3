"""Writes signing/testdata: keys of nobody in every form that OpenSSL writes, and a task body that Celery signed.

Run with celery[auth] from the root of the repository; the files are checked in, and valid for a hundred years.
"""
import datetime
import pathlib

from celery.security.certificate import Certificate, FSCertStore
from celery.security.key import PrivateKey
from celery.security.serialization import SecureSerializer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

folder = pathlib.Path("signing/testdata")
folder.mkdir(parents=True, exist_ok=True)
password = b"not a secret"

key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
now = datetime.datetime.now(datetime.timezone.utc)
# An order and a kind of names that a parser could rearrange.
issuer = x509.Name([
    x509.NameAttribute(NameOID.COMMON_NAME, "Zoë’s authority"),
    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example, Inc."),
    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "second"),
    x509.NameAttribute(NameOID.COUNTRY_NAME, "AT"),
    x509.NameAttribute(NameOID.EMAIL_ADDRESS, "nobody@example.com"),
])
cert = (
    x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "worker")]))
    .issuer_name(issuer).public_key(key.public_key()).serial_number(2**150 + 7)
    .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=36500))
    .sign(key, hashes.SHA256())
)
(folder / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
for name, form, how in [
    ("key-pkcs8", serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    ("key-pkcs1", serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()),
    ("key-pkcs8-encrypted", serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(password)),
    ("key-pkcs1-encrypted", serialization.PrivateFormat.TraditionalOpenSSL, serialization.BestAvailableEncryption(password)),
]:
    (folder / (name + ".pem")).write_bytes(key.private_bytes(serialization.Encoding.PEM, form, how))

text = (folder / "cert.pem").read_text()
(folder / "id.txt").write_text(Certificate(text).get_id())
private = PrivateKey((folder / "key-pkcs8.pem").read_text())
for digest in "sha224", "sha256", "sha384", "sha512", "sha512_256":
    try:
        s = SecureSerializer(private, Certificate(text), FSCertStore(str(folder / "cert.pem")), digest)
        (folder / (digest + ".signed")).write_text(s.serialize([[1, "zwei"], {"x": None}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]))
    except AttributeError:
        pass  # no digest of this cryptography
