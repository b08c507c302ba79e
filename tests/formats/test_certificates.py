"""Programs that are not ours read what the operator wrote for devices with certificates. run.sh sets CERTIFICATES."""

import contextlib
import json
import os
import re
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path
from unittest import mock

from azure.iot.device import X509, IoTHubDeviceClient
from azure.iot.device.common.auth.connection_string import ConnectionString
from azure.iot.device.exceptions import ClientError
from pyservicebinding.binding import ServiceBinding

DEVICES = json.loads(Path(os.environ["CERTIFICATES"]).read_text())


def files(data, folder):
    """The Secret as a volume shows it."""
    for name, value in data.items():
        Path(folder, name).write_text(value)


def connection(device, folder):
    """What Microsoft's client would connect with: its calls of the MQTT client below it."""
    with mock.patch("paho.mqtt.client.Client", autospec=True) as paho:
        broker = paho.return_value
        broker._thread = None
        broker.connect.return_value = 5
        # OpenSSL loads both files, and refuses a key of another certificate.
        client = IoTHubDeviceClient.create_from_x509_certificate(
            x509=X509(cert_file=str(Path(folder, "tls.crt")), key_file=str(Path(folder, "tls.key"))),
            hostname=device["hub"],
            device_id=device["deviceId"],
            connection_retry=False,
        )
        with contextlib.suppress(ClientError):
            client.connect()
        client.shutdown()
        set_up = broker.username_pw_set.call_args.kwargs
        return paho.call_args.kwargs["client_id"], set_up["username"], set_up.get("password")


class Certificates(unittest.TestCase):
    def each(self, config=None):
        devices = [device for device in DEVICES if config in (None, device["config"])]
        self.assertEqual(len(devices), 2 if config else 4)
        return [(device, device["data"]) for device in devices]

    def test_microsofts_client_takes_the_files_and_connects_as_the_keys_for_mqtt_say(self):
        for device, data in self.each():
            with tempfile.TemporaryDirectory() as folder:
                files(data, folder)
                client_id, username, password = connection(device, folder)
            self.assertEqual((data["mqttClientId"], password), (client_id, None))
            identity = re.escape(f"{device['hub']}/{device['deviceId']}/?api-version=")
            self.assertRegex(username, rf"^{identity}\d{{4}}-\d\d-\d\d&")
            self.assertRegex(data["mqttUsername"], rf"^{identity}\d{{4}}-\d\d-\d\d$")

    def test_microsofts_client_reads_the_connection_string(self):
        for device, data in self.each():
            text = ConnectionString(data["connectionString"])
            found = text["HostName"], text["DeviceId"], text["x509"], text.get("GatewayHostName")
            self.assertEqual(found, (device["hub"], device["deviceId"], "true", device["gateway"]))
            self.assertIn(f"IOTHUB_DEVICE_CONNECTION_STRING={data['connectionString']}\n", data["device.env"])
            self.assertNotIn("IOTHUB_DEVICE_KEY", data["device.env"])

    def test_openssl_verifies_the_copy_and_names_it_as_the_hub_does(self):
        for device, data in self.each():
            with tempfile.TemporaryDirectory() as folder:
                files(data, folder)

                def openssl(*arguments, folder=folder):
                    command = ["openssl", *arguments]
                    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout

                verified = openssl("verify", "-CAfile", "ca.crt", "-untrusted", "tls.crt", "tls.crt")
                self.assertEqual(verified.strip(), "tls.crt: OK")
                shown = openssl("x509", "-in", "tls.crt", "-noout", "-fingerprint", "-sha256", "-subject")
            fingerprint = shown.split("=", 1)[1].split("\n", 1)[0].replace(":", "").lower()
            self.assertEqual(fingerprint[:16], device["fingerprint"])
            self.assertIn(device["registrationId"], shown)

    def test_iot_edge_finds_the_two_files(self):
        x509 = {
            "method": "x509",
            "identity_cert": "file:///etc/device/tls.crt",
            "identity_pk": "file:///etc/device/tls.key",
        }
        for device, data in self.each("IotEdgeConfigToml"):
            own = {"source": "manual", "iothub_hostname": device["hub"], "device_id": device["deviceId"]}
            self.assert_edge_config(device, data, own | {"authentication": x509})
        for device, data in self.each("IotEdgeDpsConfigToml"):
            attestation = x509 | {"registration_id": device["registrationId"]}
            dps = {"source": "dps", "global_endpoint": f"https://{device['dps']}", "id_scope": device["idScope"]}
            self.assert_edge_config(device, data, dps | {"attestation": attestation})

    def assert_edge_config(self, device, data, provisioning):
        parent = {"parent_hostname": device["gateway"]} if device["gateway"] else {}
        self.assertEqual(tomllib.loads(data["config.toml"]), parent | {"provisioning": provisioning})

    def test_an_application_finds_certificate_and_key_in_its_service_binding(self):
        for device, data in self.each():
            with tempfile.TemporaryDirectory() as root, mock.patch.dict(os.environ, SERVICE_BINDING_ROOT=root):
                Path(root, "hub").mkdir()
                files(data, Path(root, "hub"))
                (found,) = ServiceBinding().bindings("azure-iothub", "azure")
            self.assertEqual((found["host"], found["username"]), (device["hub"], data["mqttUsername"]))
            # The library leaves out the line break at the end of a file.
            expected = data["tls.crt"].strip(), data["tls.key"].strip()
            self.assertEqual((found["certificates"], found["private-key"]), expected)
            self.assertNotIn("password", found)


if __name__ == "__main__":
    unittest.main()
