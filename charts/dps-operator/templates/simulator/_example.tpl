{{/* The context and the CA. Not objects of the release: Helm looks all kinds up before it creates anything,
     so on the first installation it would not know the CRDs' yet. */}}
{{- define "dps-operator.simulator.example" -}}
{{- $root := index . 0 }}
{{- $ca := index . 1 }}
{{- if $root.Values.simulator.example.enabled }}
{{- $name := include "dps-operator.simulator.fullname" $root }}
{{- $scopes := $root.Values.simulator.config.idScopes | default list }}
{{- $scope := $scopes | first | default dict }}
{{- $group := $scope.enrollmentGroups | default list | first | default dict }}
{{- if not (and $scope.idScope $group.primaryKey) }}
{{- fail "simulator.example needs simulator.config.idScopes with an enrollment group that has a primaryKey; or set simulator.example.enabled to false" }}
{{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}-example
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "dps-operator.simulator.labels" $root | nindent 4 }}
data:
  example.yaml: |
    # An integration and three devices that use the DPS simulator of this release.
    apiVersion: v1
    kind: Secret
    metadata:
      name: simulator-group-key
    type: Opaque
    stringData:
      primaryKey: {{ $group.primaryKey }}
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata:
      name: simulator-ca
    data:
      ca.crt: |
        {{- $ca | trim | nindent 8 }}
    ---
    apiVersion: dps-operator.io/v1alpha1
    kind: DpsIntegration
    metadata:
      name: simulator
    spec:
      idScope: {{ $scope.idScope }}
      hostname: {{ include "dps-operator.simulator.host" $root }}
      attestation:
        symmetricKey:
          primaryKeyRef:
            name: simulator-group-key
      caBundleRef:
        name: simulator-ca
    {{- range tuple "press-01" "oven-02" "robot-03" }}
    ---
    apiVersion: dps-operator.io/v1alpha1
    kind: ProvisionedDevice
    metadata:
      name: {{ . }}
    spec:
      integrationRef:
        name: simulator
    {{- end }}
{{- end }}
{{- end }}
