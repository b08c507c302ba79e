"""Programs that are not ours read what the operator wrote. run.sh sets FORMATS."""

import base64
import contextlib
import functools
import io
import json
import os
import re
import tempfile
import tomllib
import unittest
from pathlib import Path
from unittest import mock

import dotenv
from azure.iot.device import IoTHubDeviceClient
from azure.iot.device.exceptions import ClientError
from pyservicebinding.binding import ServiceBinding

DEVICES = json.loads(Path(os.environ["FORMATS"]).read_text())


def for_each_device(config=None):
    """Runs a test with every device that has this format; without one with all of them."""

    def decorate(check):
        @functools.wraps(check)
        def test(self):
            devices = [device for device in DEVICES if config in (None, device["config"])]
            self.assertEqual([bool(device["gateway"]) for device in devices].count(True), len(devices) / 2)
            self.assertEqual(len(devices), 2 if config else 4)
            for device in devices:
                with self.subTest(gateway=device["gateway"], config=device["config"]):
                    check(self, device, device["data"])

        return test

    return decorate


def connection(text):
    """What Microsoft's client would connect with, to where: its calls of the MQTT client below it."""
    with mock.patch("paho.mqtt.client.Client", autospec=True) as paho:
        broker = paho.return_value
        broker._thread = None
        broker.connect.return_value = 5
        client = IoTHubDeviceClient.create_from_connection_string(text, connection_retry=False)
        # It is told that it is not authorised.
        with contextlib.suppress(ClientError):
            client.connect()
        client.shutdown()
        return (
            paho.call_args.kwargs["client_id"],
            broker.username_pw_set.call_args.kwargs["username"],
            broker.connect.call_args.kwargs,
        )


def docker(text):
    """As `docker run --env-file` reads: comments are whole lines, and nothing is ever unquoted."""
    lines = (line.lstrip() for line in text.split("\n"))
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def systemd(text):
    """As systemd.exec(5) says of EnvironmentFile=, and only what needs none of its rules: no quote, no
    escape, no white space, no line that could be a comment."""
    form = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=([^\s'\"\\]+)")
    return dict(form.fullmatch(line).groups() for line in text.splitlines())


class Formats(unittest.TestCase):
    def environment(self, device):
        return {
            "IOTHUB_DEVICE_CONNECTION_STRING": device["data"]["connectionString"],
            "IOTHUB_HOSTNAME": device["hub"],
            "IOTHUB_DEVICE_ID": device["registrationId"],
            "IOTHUB_DEVICE_KEY": device["key"],
        }

    @for_each_device()
    def test_the_keys_for_mqtt_are_what_microsofts_client_connects_with(self, device, data):
        client_id, username, broker = connection(data["connectionString"])
        self.assertEqual(data["mqttClientId"], client_id)
        self.assertEqual((data["mqttHost"], int(data["mqttPort"])), (broker["host"], broker["port"]))
        self.assertEqual(broker["host"], device["gateway"] or device["hub"])
        # Each version of the client names the interface that it was made for, and adds what it is.
        identity = re.escape(f"{device['hub']}/{device['registrationId']}/?api-version=")
        self.assertRegex(username, rf"^{identity}\d{{4}}-\d\d-\d\d&")
        self.assertRegex(data["mqttUsername"], rf"^{identity}\d{{4}}-\d\d-\d\d$")

    @for_each_device()
    def test_every_value_of_its_own_is_that_of_the_device(self, device, data):
        standard = {
            "iotHubHostname": device["hub"],
            "deviceId": device["registrationId"],
            "sharedAccessKey": device["key"],
            "registrationId": device["registrationId"],
            "idScope": device["idScope"],
        }
        expected = standard | self.environment(device)
        self.assertEqual({name: data[name] for name in expected}, expected)

    @for_each_device()
    def test_the_dotenv_file_says_the_same_to_all_who_read_such_files(self, device, data):
        text = data["device.env"]
        self.assertEqual(dict(dotenv.dotenv_values(stream=io.StringIO(text))), self.environment(device))
        self.assertEqual(docker(text), self.environment(device))
        self.assertEqual(systemd(text), self.environment(device))

    def assert_edge_config(self, device, text, provisioning):
        parent = {"parent_hostname": device["gateway"]} if device["gateway"] else {}
        self.assertEqual(tomllib.loads(text), parent | {"provisioning": provisioning})

    @for_each_device("IotEdgeConfigToml")
    def test_iot_edge_finds_the_connection_string(self, device, data):
        provisioning = {"source": "manual", "connection_string": data["connectionString"]}
        self.assert_edge_config(device, data["config.toml"], provisioning)

    @for_each_device("IotEdgeDpsConfigToml")
    def test_iot_edge_finds_what_it_registers_with(self, device, data):
        attestation = {
            "method": "symmetric_key",
            "registration_id": device["registrationId"],
            "symmetric_key": {"value": device["key"]},
        }
        provisioning = {
            "source": "dps",
            "global_endpoint": f"https://{device['dps']}",
            "id_scope": device["idScope"],
            "attestation": attestation,
        }
        self.assert_edge_config(device, data["config.toml"], provisioning)
        self.assertEqual(len(base64.b64decode(device["key"], validate=True)), 32)

    @for_each_device()
    def test_an_application_finds_its_service_binding_by_type_and_provider(self, device, data):
        with tempfile.TemporaryDirectory() as root, mock.patch.dict(os.environ, SERVICE_BINDING_ROOT=root):
            Path(root, "hub").mkdir()
            for name, value in data.items():
                Path(root, "hub", name).write_text(value)
            (found,) = ServiceBinding().bindings("azure-iothub", "azure")
            self.assertEqual(ServiceBinding().bindings("azure-iothub", "somebody else"), [])
        self.assertEqual((found["host"], found["password"]), (device["hub"], device["key"]))
        self.assertEqual(found["username"], data["mqttUsername"])


if __name__ == "__main__":
    unittest.main()
