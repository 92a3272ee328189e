"""The server class of gurux-dlms (PyPI) as a meter: what it is asked and answers is its own code's.

As shipped (1.0.203) the class does not run: what is called has other names than what is there, lengths of the link are
unset, a proof's bytes are taken for a number, a challenge is counted without its head. That is repaired here; nothing
of it makes or reads a service.
"""

import importlib
from collections.abc import Iterable
from typing import Any

from gurux_dlms import GXServerReply, ValueEventArgs
from gurux_dlms.enums import AccessMode, Authentication, ErrorCode, InterfaceType, MethodAccessMode, SourceDiagnostic
from gurux_dlms.GXDLMSSettings import GXDLMSSettings
from gurux_dlms.GXHdlcSettings import GXHdlcSettings
from gurux_dlms.objects import (
    GXDLMSAssociationLogicalName,
    GXDLMSAssociationShortName,
    GXDLMSClock,
    GXDLMSData,
    GXDLMSDemandRegister,
    GXDLMSRegister,
)
from gurux_dlms.secure import GXDLMSSecureServer


def _repair() -> None:
    """A list of one is made of an event, a getter is asked for, a proof's bytes are taken for a number, and the length
    of a challenge of 16 bytes is told without those of its head."""
    apdus: Any = importlib.import_module("gurux_dlms._GXAPDU")._GXAPDU
    generate = apdus.generateAARE

    def generate_aare(settings: Any, data: Any, *rest: Any) -> None:
        generate(settings, data, *rest)
        at = bytes(data.array()).find(b"\xaa\x10\x80\x10")
        if at >= 0:
            data.setUInt8(0x12, at + 1)

    apdus.generateAARE = staticmethod(generate_aare)
    events: Any = ValueEventArgs
    events.__iter__ = lambda self: iter((self,))
    events.isSkipMaxPduSize = lambda self: self.skipMaxPduSize
    associations: Any = GXDLMSAssociationLogicalName
    associations.getAssociationStatus = lambda self: self.associationStatus
    settings: Any = GXDLMSSettings
    settings.setConnected = lambda self, value: setattr(self, "connected", value)
    for name in ("Logical", "Short"):
        module: Any = importlib.import_module(f"gurux_dlms.objects.GXDLMSAssociation{name}Name")
        module.int = lambda value: value if isinstance(value, (bytes, bytearray)) else int(value)


_repair()


class _NoTransaction:
    """None, which is called too."""

    def __bool__(self) -> bool:
        return False

    def __call__(self) -> None:
        return None


class _Server(GXDLMSSecureServer):
    password = b""
    level = Authentication.NONE
    _transaction: Any = None

    @property
    def transaction(self) -> Any:
        return self._transaction or _NoTransaction()

    @transaction.setter
    def transaction(self, value: Any) -> None:
        self._transaction = value

    def isTarget(self, serverAddress: int, clientAddress: int) -> bool:
        return True

    def handleSnrmRequest(self, data: Any) -> None:
        super().handleSnrmRequest(data)
        self._put_length()

    def generateDisconnectRequest(self) -> None:
        super().generateDisconnectRequest()
        self._put_length()

    def _put_length(self) -> None:
        n = len(self.replyData) - 3  # it gives place and value in the other order
        self.replyData.setUInt8(0, n)
        self.replyData.setUInt8(n, 2)

    def onValidateAuthentication(self, authentication: Any, password: Any) -> Any:
        if authentication != self.level:
            return SourceDiagnostic.NOT_RECOGNISED
        if authentication == Authentication.LOW and bytes(password) != self.password:
            return SourceDiagnostic.AUTHENTICATION_FAILURE
        return SourceDiagnostic.NONE

    def onFindObject(self, objectType: Any, sn: int, ln: Any) -> Any:
        return None

    def onGetAttributeAccess(self, arg: Any) -> Any:
        return AccessMode.READ

    def onGetMethodAccess(self, arg: Any) -> Any:
        return MethodAccessMode.ACCESS

    def _nothing(self, *_: Any) -> None:
        pass

    onPreRead = onPostRead = onPreAction = onPostAction = onConnected = onDisconnected = _nothing
    onInvalidConnection = onPreWrite = onPostWrite = notifyConnected = notifyRead = _nothing


class _ShortNames(GXDLMSAssociationShortName):
    def getValue(self, settings: Any, e: Any) -> Any:
        value = super().getValue(settings, e)
        e.error = ErrorCode.OK if value else e.error  # it is set in any case
        return value


class DemandRegister(GXDLMSDemandRegister):
    """Its scale is bytes, which it does not say as a register does."""

    def getValue(self, settings: Any, e: Any) -> Any:
        e.byteArray = e.index == 4
        return super().getValue(settings, e)


class _Lengths:
    """What the server takes for the settings of its link, under each of the names it has for them."""

    maxInfoTX = maxInfoRX = maximumInfoLengthReceive = maximumInfoLengthTransmit = 128
    windowSizeTX = windowSizeRX = windowSizeReceive = windowSizeTransmit = 1
    inactivityTimeout = 0


class _HdlcSettings(GXHdlcSettings):
    def update(self, other: Any) -> None:
        pass


class _Reply(GXServerReply):
    def setReply(self, value: Any) -> None:
        self.reply = value

    def getConnectionInfo(self) -> Any:
        return self.connectionInfo


class GuruxMeter:
    """As AskedDlmsMeter, for support.dlms_attempt. `registers`: OBIS code (dots) -> (count, scaler, unit); `more`:
    other objects of Gurux's own."""

    def __init__(
        self,
        registers: dict[str, tuple[int, int, int]],
        number: str,
        *,
        level: Any = Authentication.NONE,
        password: str = "",
        short_names: bool = False,
        wrapped: bool = False,
        more: Iterable[Any] = (),
    ) -> None:
        self.has_short_names, self.is_wrapped = short_names, wrapped
        kind = InterfaceType.WRAPPER if wrapped else InterfaceType.HDLC
        server = self.server = _Server(not short_names, kind)
        server.level, server.password = level, password.encode()
        server.hdlc = None if wrapped else _Lengths()
        server.settings.hdlc = _HdlcSettings()
        data = GXDLMSData("0.0.96.1.0.255")
        data.value = number.encode()
        server.items.append(data)
        server.items.append(GXDLMSClock("0.0.1.0.0.255"))
        for code, (count, scaler, unit) in registers.items():
            register = GXDLMSRegister(code)
            register.value, register.scaler, register.unit = count, 10**scaler, unit
            server.items.append(register)
        for item in more:
            server.items.append(item)
        association = _ShortNames() if short_names else GXDLMSAssociationLogicalName()
        association.secret = server.password
        for k, item in enumerate(server.items):
            item.shortName = 0x100 * (k + 1)
        for item in (*server.items, association):
            association.objectList.append(item)
        server.items.append(association)
        server.initialize()
        self._said: list[bytes] = []
        self._heard = b""

    def receive(self, value: int, at_s: float) -> None:
        self._heard += bytes((value,))

    def poll(self, now_s: float, free_s: float) -> Any:
        heard, self._heard = self._heard, b""
        if not heard:
            return None
        reply = _Reply(heard)
        self.server.handleRequest(reply)
        return _Said(bytes(reply.reply)) if reply.reply else None


class _Said:
    def __init__(self, data: bytes) -> None:
        self.data = data
