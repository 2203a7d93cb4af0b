"""The connection to the broker. A thread of paho-mqtt reads messages, and acknowledges them on request."""

import ssl
import sys
from collections.abc import Iterable, Sequence
from threading import Event, Lock
from time import monotonic
from typing import Any, Final

import msgspec
import paho.mqtt.client as paho
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from app.clock import DistinctClock
from app.errors import SettingsError
from app.mqtt.inbox import MessageQueue
from app.mqtt.model import MqttBroker, MqttMessage

KEEPALIVE_S: Final = 30
#: Limit that a broker of version 5 observes. A broker of version 3.1.1 also delivers larger messages.
LARGEST_PAYLOAD: Final = 2**20
#: Topic of a message that no client subscribes to. Brokers answer in order, so the answer to this message shows that
#: the broker has all earlier acknowledgements.
_MARKER: Final = "tidegauge/acknowledged"
_TAKEN_OVER: Final = 142
#: Bad user name or password, and not authorized; paho gives those of version 3.1.1 the same numbers.
_LOGIN_REFUSALS: Final = (134, 135)
#: Some brokers do not say that another client took the session over, but close the connection each time. This many
#: short connections in a row mean the same.
_SHORT_CONNECTIONS: Final = 3
_SHORT_S: Final = 5.0
#: Pause after another client took the session over, so that an operator can notice it.
_TAKEN_OVER_PAUSE_S: Final = 30.0
_LONGEST_PAUSE_S: Final = 30
#: A failure that repeats is logged once in this time.
_LOGGED_EVERY_S: Final = 60.0
log = structlog.get_logger()


class BrokerLogin(msgspec.Struct, frozen=True):
    """The user name and password of the bridge."""

    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return "<BrokerLogin>"


class BrokerConnection:
    """Keeps a persistent session with the broker, and puts its messages into an inbox.

    `connection` numbers the connections. An acknowledgement must not be sent on a later connection, where the packet id
    may be that of another message.
    """

    def __init__(
        self,
        broker: MqttBroker,
        filters: Sequence[str],
        gone: Sequence[str],
        credentials: BrokerLogin,
        inbox: MessageQueue,
    ) -> None:
        self._broker = broker
        self._filters = filters
        self._gone = gone
        self._inbox = inbox
        self._clock = DistinctClock()
        self._client = self._make_client(credentials)
        self._lock = Lock()
        self._connections = 0
        self._is_connected = False
        self._is_stopping = Event()
        #: Id of a marker -> the messages whose acknowledgements the broker has once it answers the marker.
        self._marked: dict[int, list[MqttMessage]] = {}
        self._confirmed: list[MqttMessage] = []
        self._connected_at = 0.0
        self._short_connections = 0
        self._logged = (0.0, "")
        #: The reason for which the broker does not deliver everything; empty if it does.
        self.problem = "the broker was not reached yet"

    @property
    def is_connected(self) -> bool:
        """Return whether a connection is open now."""
        return self._is_connected

    def start(self) -> None:
        """Connect, and connect again whenever the connection is lost, until `stop`."""
        broker = self._broker
        options: dict[str, Any] = {}
        if broker.protocol == "5":
            options = {"clean_start": False, "properties": _connect_properties(broker)}
        self._client.connect_async(broker.host, broker.port, KEEPALIVE_S, **options)
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect; the broker keeps the session and the unacknowledged messages."""
        self._is_stopping.set()
        self._inbox.close()
        self._client.disconnect()
        self._client.loop_stop()

    def restart(self) -> None:
        """Disconnect and connect again, so that unacknowledged messages are delivered again."""
        self._client.disconnect()
        self._client.loop_stop()
        self.start()

    def acknowledge(self, messages: Iterable[MqttMessage]) -> None:
        """Acknowledge messages in the order of their arrival; those of an earlier connection are delivered again."""
        done = []
        with self._lock:
            for message in messages:
                if message.qos and self._is_connected and message.connection == self._connections:
                    self._client.ack(message.packet_id, message.qos)
                    done.append(message)
            if done:
                _, marker_id = self._client.unsubscribe(_MARKER)
                self._marked[marker_id or 0] = done

    def take_confirmed(self) -> list[MqttMessage]:
        """Return the messages whose acknowledgement the broker has, each once."""
        with self._lock:
            confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def _make_client(self, credentials: BrokerLogin) -> paho.Client:
        broker = self._broker
        is_5 = broker.protocol == "5"
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            broker.client_id,
            clean_session=None if is_5 else False,
            protocol=MQTTProtocolVersion.MQTTv5 if is_5 else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        if credentials.username is not None:
            client.username_pw_set(credentials.username, credentials.password)
        if broker.has_tls:
            client.tls_set_context(_tls_context(broker))
        client.reconnect_delay_set(1, _LONGEST_PAUSE_S)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_message = self._on_message
        return client

    def _on_connect(
        self, client: paho.Client, _data: Any, flags: paho.ConnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        if reason.is_failure:
            self.problem = f"the broker refuses the connection: {reason}"
            if reason.value in _LOGIN_REFUSALS:
                self.problem += "; set MQTT_USERNAME and MQTT_PASSWORD"
            if self._is_news(self.problem):
                log.warning("mqtt_connection_refused", broker=self._address, reason=str(reason))
            return
        with self._lock:
            self._connections += 1
            self._is_connected = True
            self._connected_at = monotonic()
            is_first = self._connections == 1
        log.info("mqtt_connected", broker=self._address, session_kept=flags.session_present)
        if not flags.session_present and not is_first:
            log.error("mqtt_session_lost", broker=self._address)
        if self._broker.protocol == "5":
            # The broker sends retained messages only for new subscriptions.
            options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            client.subscribe([(one, options) for one in self._filters])
        else:
            client.subscribe([(one, 1) for one in self._filters])
        if self._gone:
            client.unsubscribe(list(self._gone))

    def _on_connect_fail(self, _client: paho.Client, _data: Any) -> None:
        reason = str(sys.exc_info()[1] or "no connection")  # paho calls this while it handles the exception
        self.problem = f"the broker cannot be reached: {reason}"
        if self._is_news(self.problem):
            log.warning("mqtt_unreachable", broker=self._address, reason=reason)

    def _on_disconnect(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        with self._lock:
            was_connected, self._is_connected = self._is_connected, False
            self._marked.clear()
        if self._is_stopping.is_set():
            return
        if was_connected:
            self.problem = f"the connection to the broker was lost: {reason}"
            if self._is_news(self.problem):
                log.warning("mqtt_disconnected", broker=self._address, reason=str(reason))
            is_short = monotonic() - self._connected_at < _SHORT_S
            self._short_connections = self._short_connections + 1 if is_short else 0
        if reason.value == _TAKEN_OVER or self._short_connections >= _SHORT_CONNECTIONS:
            self._short_connections = 0
            self.problem = f'another client uses the client id "{self._broker.client_id}"; give each its own'
            log.error("mqtt_session_taken_over", client_id=self._broker.client_id)
            self._is_stopping.wait(_TAKEN_OVER_PAUSE_S)

    def _on_subscribe(
        self, _client: paho.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        refused = [one for one, reason in zip(self._filters, reasons, strict=False) if reason.is_failure]
        self.problem = f"the broker refuses the subscription to {', '.join(refused)}" if refused else ""
        if refused:
            log.error("mqtt_subscription_refused", topics=refused, reasons=[str(reason) for reason in reasons])

    def _on_unsubscribe(self, _client: paho.Client, _data: Any, mid: int, _reasons: Any, _properties: Any) -> None:
        with self._lock:
            self._confirmed += self._marked.pop(mid, [])

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # no route takes it, and it is acknowledged
        self._inbox.put(
            MqttMessage(
                topic=topic,
                payload=bytes(message.payload),
                received_us=self._clock(),
                qos=message.qos,
                packet_id=message.mid,
                is_repeated=bool(message.dup),
                is_retained=bool(message.retain),
                connection=self._connections,
            )
        )

    @property
    def _address(self) -> str:
        return f"{self._broker.host}:{self._broker.port}"

    def _is_news(self, problem: str) -> bool:
        """Return whether a problem differs from the last one, or was not logged for a while."""
        at, text = self._logged
        if problem == text and monotonic() - at < _LOGGED_EVERY_S:
            return False
        self._logged = (monotonic(), problem)
        return True


def _connect_properties(broker: MqttBroker) -> Any:
    properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = broker.session_s
    properties.ReceiveMaximum = broker.in_flight
    properties.MaximumPacketSize = LARGEST_PAYLOAD + 2**16
    return properties


def _tls_context(broker: MqttBroker) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=broker.ca)
        if broker.certificate is not None:
            context.load_cert_chain(broker.certificate, broker.key)
    except OSError as error:
        names = ", ".join(str(file) for file in (broker.ca, broker.certificate, broker.key) if file is not None)
        raise SettingsError(f"The certificates in {names} cannot be used: {error}") from None
    return context
