"""HighEcdsa and the security suites 1 and 2, on a computer: our client and gurux-dlms ask the simulated meter."""

import datetime
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from gurux_dlms.ecdsa import GXPrivateKey, GXPublicKey
from gurux_dlms.enums import Authentication, ObjectType
from support.gurux_client import convinced_client

from metering.dlms.asked_values import AskedValues
from metering.dlms.client import Conversation
from metering.on_computer.signed_suites import SuiteOptions
from optoprobe.decoding import clean_long_key
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
from optoprobe.virtual.dlms_asked_security import ECDSA, GMAC, Demands
from optoprobe.virtual.line import VirtualLine

TITLE = b"OPTtest1"
CURVES = {1: ec.SECP256R1(), 2: ec.SECP384R1()}
KEYS = {n: (bytes(range(n)), bytes(range(0xC0, 0xC0 + n))) for n in (16, 32)}
OURS = {suite: ec.derive_private_key(0x1234567 + suite, curve) for suite, curve in CURVES.items()}
METERS = {suite: ec.derive_private_key(0x7654321 + suite, curve) for suite, curve in CURVES.items()}


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate(key):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "OPT")])
    begins = datetime.datetime(2026, 1, 1)
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, begins, begins + datetime.timedelta(days=9999))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def public_pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.fixture
def files(tmp_path):
    """The words that name the keys of a suite."""
    for suite in CURVES:
        (tmp_path / f"own{suite}.pem").write_bytes(pem(OURS[suite]))
        made = certificate if suite == 1 else public_pem
        (tmp_path / f"meter{suite}.pem").write_bytes(made(METERS[suite]))
    return lambda suite: f"signing_key={tmp_path}/own{suite}.pem meter_certificate={tmp_path}/meter{suite}.pem"


def demands(suite, mechanism, policy):
    more = {}
    if mechanism == ECDSA:
        more = {"signs": METERS[suite], "signed_by": OURS[suite].public_key()}
    if policy or mechanism == GMAC:
        more |= dict(zip(("key", "auth_key"), KEYS[16 * suite], strict=True))
    return Demands(mechanism, policy=policy, suite=suite, **more)


def asked_of(meter, words):
    conversation = Conversation(AskedValues())
    if meter.security.demands.key:
        keys = meter.security.demands.key, meter.security.demands.auth_key
        conversation.take_keys(*keys, TITLE, lambda least: max(least, 5000), 64)
    conversation.take_options(words + " type=SN" * meter.has_short_names)
    return conversation, Bench(meter, VirtualLine(meter.line))


WAYS = [
    (suite, mechanism, policy, ciphering)
    for suite in CURVES
    for mechanism, policy, ciphering in (
        (ECDSA, 0, ""), (ECDSA, 0x30, ""), (GMAC, 0x30, "DEDICATED"), (GMAC, 0x10, "GENERAL"), (GMAC, 0x20, "GLOBAL")
    )
]  # fmt: skip
POLICIES = {0: "NONE", 0x10: "AUTHENTICATED", 0x20: "ENCRYPTED", 0x30: "BOTH"}


@pytest.mark.parametrize("short_names", [False, True])
@pytest.mark.parametrize(("suite", "mechanism", "policy", "ciphering"), WAYS)
def test_both_are_convinced_and_the_meter_is_read(files, suite, mechanism, policy, ciphering, short_names):
    client = 1 if mechanism == ECDSA else None
    meter = AskedDlmsMeter(demands=demands(suite, mechanism, policy), short_names=short_names, client=client)
    words = f"suite={suite} security={POLICIES[policy]} client_address=1"
    if mechanism == ECDSA:
        words += f" auth=HighEcdsa system_title={TITLE.decode()} {files(suite)}"
    conversation, bench = asked_of(meter, words + f" ciphering={ciphering}" * bool(ciphering))
    for _ in range(2):
        bench.wait(1000)
        assert bench.converse(conversation.read_out()), conversation.explanation
        assert len(conversation._listener._values) == 13
    assert meter.events[-1] == "left properly, 13 values read" and conversation.explanation == ""
    assert meter.served <= {0x60, 0xC0, 0xC3, 0x05}
    numbers = meter.security.heard_counters
    assert len(set(numbers)) == len(numbers)


def test_another_key_on_either_side_convinces_nobody(files, tmp_path):
    other = ec.derive_private_key(99, CURVES[1])
    words = f"auth=HIGHECDSA client_address=1 system_title={TITLE.decode()} {files(1)}"
    for change, said in (({"signed_by": other.public_key()}, "access denied"), ({"signs": other}, "does not hold")):
        meter = AskedDlmsMeter(demands=demands(1, ECDSA, 0)._replace(**change), client=1)
        conversation, bench = asked_of(meter, words)
        assert not bench.converse(conversation.read_out()) and said in conversation.explanation
        assert conversation.is_resting or conversation.failed["password refused"] == 1


@pytest.mark.parametrize("policy", [0, 0x30])
def test_gurux_convinces_the_simulated_meter_by_its_own_ecdsa(policy, capsys):
    wanted = demands(1, ECDSA, policy)
    meter = AskedDlmsMeter(demands=wanted, client=1)
    client = convinced_client(meter, Authentication.HIGH_ECDSA)
    n = OURS[1].private_numbers().private_value
    point = METERS[1].public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    own = GXPrivateKey.fromRawBytes(n.to_bytes(32, "big"))
    client.gurux.ciphering.signingKeyPair = (GXPublicKey.fromRawBytes(point), own)
    _read(client, meter)
    capsys.readouterr()  # it prints its keys


@pytest.mark.parametrize("suite", [1, 2])
@pytest.mark.parametrize("policy", [0, 0x10, 0x20, 0x30])
def test_gurux_is_ciphered_by_suites_1_and_2(suite, policy):
    wanted = demands(suite, GMAC, policy)
    meter = AskedDlmsMeter(demands=wanted)
    _read(convinced_client(meter, Authentication.HIGH_GMAC), meter)


def _read(client, meter):
    client.associate()
    assert meter.is_associated
    register = client.gurux.createObject(ObjectType.REGISTER)
    register.logicalName = "1.0.1.8.0.255"
    client.gurux.updateValue(register, 2, client.ask(client.gurux.read(register, 2)).value)
    assert register.value == meter.read[0][1]
    client.ask(client.gurux.disconnectRequest())


def test_what_is_wrong_is_one_sentence_and_no_key_is_shown(files, tmp_path):
    (tmp_path / "rsa.pem").write_bytes(pem(rsa.generate_private_key(65537, 1024)))
    (tmp_path / "none.pem").write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n")
    k16, k32 = KEYS[16], KEYS[32]
    own1, meter1 = files(1).split()
    own2 = files(2).split()[0]
    for words, keys, said in (
        (["suite=3"], k16, "suite is 0, 1 or 2"),
        (["suite=2"], k16, "suite=2 wants keys of 64 hexadecimal digits"),
        (["suite=1"], k32, "suite=1 wants keys of 32 hexadecimal digits"),
        (["auth=HIGHECDSA", own1], k16, "belong together"),
        (["auth=HIGHGMAC", own1, meter1], k16, "belong together"),
        (["auth=HIGHECDSA", own2, meter1], k16, "of one curve"),
        (["auth=HIGHECDSA", own1, meter1, "suite=2"], k32, "suite=2 with keys of P-384"),
        (["auth=HIGHECDSA", "signing_key=/nowhere.pem", meter1], k16, "/nowhere.pem cannot be read"),
        (["auth=HIGHECDSA", f"signing_key={tmp_path}/none.pem", meter1], k16, "is no key in PEM"),
        (["auth=HIGHECDSA", f"signing_key={tmp_path}/rsa.pem", meter1], k16, "not of an elliptic curve"),
        (["auth=HIGHECDSA", own1, meter1.replace("meter1", "own1")], k16, "is no key in PEM"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            SuiteOptions(words, b"", *keys, TITLE)
        assert "\n" not in str(caught.value) and "c2VjcmV0" not in str(caught.value)
    assert clean_long_key("--key", k32[0].hex(" ")) == k32[0] and clean_long_key("--key", None) is None
    for text in ("00" * 16, "zz" * 32, ""):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            clean_long_key("--key", text)


def test_a_board_has_none_of_it_and_says_so(monkeypatch):
    for words in ("auth=HIGHECDSA", "suite=1", "auth=high_ecdsa signing_key=x"):
        conversation = Conversation(AskedValues(), password="71043298")
        monkeypatch.setitem(sys.modules, "metering.on_computer.signed_suites", None)
        conversation.take_options(words)
        assert "for a computer alone: optoprobe read" in conversation.explanation
        assert conversation._way.password == b""  # and none goes out
