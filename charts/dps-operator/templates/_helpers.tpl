{{- define "dps-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 46 characters, so that every suffix of the chart still fits a Service's 63. */}}
{{- define "dps-operator.fullname" -}}
{{- $name := include "dps-operator.name" . }}
{{- /* A release may have dots in its name, a Service may not. */}}
{{- $release := .Release.Name | replace "." "-" }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 46 | trimSuffix "-" }}
{{- else if contains $name $release }}
{{- $release | trunc 46 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" $release $name | trunc 46 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Never changes in the life of a release: a Deployment's selector is immutable. */}}
{{- define "dps-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "dps-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "dps-operator.simulator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "dps-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: simulator
{{- end }}

{{- define "dps-operator.labels" -}}
{{- include "dps-operator.labelsOf" (list . (include "dps-operator.selectorLabels" .)) }}
{{- end }}

{{- define "dps-operator.simulator.labels" -}}
{{- include "dps-operator.labelsOf" (list . (include "dps-operator.simulator.selectorLabels" .)) }}
{{- end }}

{{/* The context and selector labels; what selects wins over commonLabels. */}}
{{- define "dps-operator.labelsOf" -}}
{{- $root := index . 0 }}
{{- $chart := printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- $own := dict
      "app.kubernetes.io/version" ($root.Values.image.tag | default $root.Chart.AppVersion | replace "+" "_" | trunc 63)
      "app.kubernetes.io/part-of" "dps-operator"
      "app.kubernetes.io/managed-by" $root.Release.Service
      "helm.sh/chart" $chart }}
{{- toYaml (mergeOverwrite (deepCopy $root.Values.commonLabels) $own (index . 1 | fromYaml)) }}
{{- end }}

{{/* A digest names the image alone: a tag beside it would only be believed by people. The first part of
     a repository is a registry if it looks like one, as for Docker. */}}
{{- define "dps-operator.image" -}}
{{- $root := index . 0 }}
{{- $image := index . 1 }}
{{- $repository := $image.repository }}
{{- with ($root.Values.global).imageRegistry }}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" $repository "") }}
{{- end }}
{{- if $image.digest }}
{{- printf "%s@%s" $repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $repository ($image.tag | default $root.Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* A JSON list of {name: …}, those of a parent chart behind the chart's own. */}}
{{- define "dps-operator.pullSecrets" -}}
{{- $secrets := .Values.image.pullSecrets }}
{{- range (.Values.global).imagePullSecrets }}
{{- if kindIs "string" . }}
{{- $secrets = append $secrets (dict "name" .) }}
{{- else }}
{{- $secrets = append $secrets (dict "name" .name) }}
{{- end }}
{{- end }}
{{- $secrets | uniq | toJson }}
{{- end }}

{{/* Whether no two Pods may be on one node. */}}
{{- define "dps-operator.onePodANode" -}}
{{- if .Values.affinity }}
{{- if ((.Values.affinity).podAntiAffinity).requiredDuringSchedulingIgnoredDuringExecution }}true{{ end }}
{{- else if eq .Values.podAntiAffinity "hard" }}true{{ end }}
{{- end }}

{{- define "dps-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "dps-operator.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "dps-operator.leaseName" -}}
{{- .Values.leaderElection.leaseName | default (include "dps-operator.fullname" .) }}
{{- end }}

{{- define "dps-operator.leaseNamespace" -}}
{{- .Values.leaderElection.leaseNamespace | default .Release.Namespace }}
{{- end }}

{{/* What follows the last colon. */}}
{{- define "dps-operator.httpPort" -}}
{{- regexFind "[0-9]+$" .Values.httpAddr }}
{{- end }}

{{/* The address of httpAddr with the port of the probes. */}}
{{- define "dps-operator.probeAddr" -}}
{{- regexReplaceAll "[0-9]+$" .Values.httpAddr (int .Values.probePort | toString) }}
{{- end }}

{{- define "dps-operator.simulator.fullname" -}}
{{- printf "%s-simulator" (include "dps-operator.fullname" .) }}
{{- end }}

{{/* As the operator calls it: by its Service, on 443, which needs no port in --allowed-dps-hosts. */}}
{{- define "dps-operator.simulator.host" -}}
{{- printf "%s.%s.svc" (include "dps-operator.simulator.fullname" .) .Release.Namespace }}
{{- end }}

{{- define "dps-operator.simulator.tlsSecret" -}}
{{- .Values.simulator.tls.existingSecret | default (printf "%s-tls" (include "dps-operator.simulator.fullname" .)) }}
{{- end }}

{{/* Where the example belongs: a namespace that the operator watches. */}}
{{- define "dps-operator.simulator.exampleNamespace" -}}
{{- $watched := .Values.watchNamespaces }}
{{- if or (not $watched) (has .Release.Namespace $watched) }}
{{- .Release.Namespace }}
{{- else }}
{{- first $watched }}
{{- end }}
{{- end }}

{{- define "dps-operator.hostsAreDefault" -}}
{{- $default := "*.azure-devices-provisioning.net,*.azure-devices-provisioning.us,*.azure-devices-provisioning.cn" }}
{{- if eq (join "," .Values.allowedDpsHosts) $default }}true{{ end }}
{{- end }}

{{/* Those of Azure's own domains. */}}
{{- define "dps-operator.azureHosts" -}}
{{- $hosts := list }}
{{- range .Values.allowedDpsHosts }}
{{- if regexMatch "(?i)[.]azure-devices-provisioning[.](net|us|cn)[.]?(:[0-9]+)?$" . }}
{{- $hosts = append $hosts . }}
{{- end }}
{{- end }}
{{- join "," $hosts }}
{{- end }}

{{/* With the simulator, and the list as it is in values.yaml, no integration gets to Azure by mistake. */}}
{{- define "dps-operator.allowedDpsHosts" -}}
{{- $hosts := .Values.allowedDpsHosts }}
{{- if .Values.simulator.enabled }}
{{- if and (include "dps-operator.hostsAreDefault" .) (not .Values.simulator.besideAzure) }}
{{- $hosts = list }}
{{- end }}
{{- $hosts = append $hosts (include "dps-operator.simulator.host" .) }}
{{- end }}
{{- join "," ($hosts | uniq) }}
{{- end }}

{{/* The operator's arguments as a YAML list. */}}
{{- define "dps-operator.args" -}}
- run
{{- with .Values.watchNamespaces }}
- {{ printf "--watch-namespaces=%s" (join "," .) | quote }}
{{- end }}
- --registrations-per-minute={{ int .Values.registrationsPerMinute }}
- --max-in-flight={{ int .Values.maxInFlight }}
- {{ printf "--allowed-dps-hosts=%s" (include "dps-operator.allowedDpsHosts" .) | quote }}
- {{ printf "--allowed-hub-suffixes=%s" (join "," .Values.allowedHubSuffixes) | quote }}
{{- with .Values.dpsProxy }}
- {{ printf "--dps-proxy=%s" . | quote }}
{{- end }}
- --events={{ .Values.events }}
- {{ printf "--log-level=%s" .Values.logLevel | quote }}
- --log-format={{ .Values.logFormat }}
{{- with .Values.secretMetadataAllowedPrefixes }}
- {{ printf "--secret-metadata-allowed-prefixes=%s" (join "," .) | quote }}
{{- end }}
{{- if .Values.certManager.enabled }}
- --cert-manager
{{- end }}
- {{ printf "--http-addr=%s" .Values.httpAddr | quote }}
- {{ printf "--probe-addr=%s" (include "dps-operator.probeAddr" .) | quote }}
{{- if .Values.leaderElection.enabled }}
- --leader-elect
- --lease-name={{ include "dps-operator.leaseName" . }}
- --lease-namespace={{ include "dps-operator.leaseNamespace" . }}
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/* What the schema cannot see: settings that are each fine and do not go together. */}}
{{- define "dps-operator.validate" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.leaderElection.enabled) }}
{{- fail "replicas is more than 1 and leaderElection.enabled is false: all replicas would act at once. Set replicas to 1, or leave leader election on" }}
{{- end }}
{{- if regexMatch "^(127\\.|\\[([0:]*:0*1|::[fF]{4}:127\\..*)\\]:)" .Values.httpAddr }}
{{- fail (printf "httpAddr is %s, a loopback address: neither the probes nor Prometheus would reach it. Use 0.0.0.0 or [::]" .Values.httpAddr) }}
{{- end }}
{{- if not .Values.enabled }}
{{- fail "enabled is false, and the chart is rendered all the same: a parent chart needs `condition: dps-operator.enabled` at its dependency" }}
{{- end }}
{{- if and (or .Values.metrics.service.enabled .Values.simulator.enabled) (regexMatch "^[0-9]" (include "dps-operator.fullname" .)) }}
{{- fail (printf "the chart's objects would be named %s, and no Service's name begins with a digit: set fullnameOverride" (include "dps-operator.fullname" .)) }}
{{- end }}
{{- if and .Values.simulator.enabled (not .Values.simulator.besideAzure) (not (include "dps-operator.hostsAreDefault" .)) (include "dps-operator.azureHosts" .) }}
{{- fail (printf "simulator.enabled, and allowedDpsHosts has %s: an installation for production has no simulator, whose keys everybody knows. Leave the hosts out, or set simulator.besideAzure" (include "dps-operator.azureHosts" .)) }}
{{- end }}
{{- range append .Values.extraArgs .Values.dpsProxy }}
{{- if regexMatch "^(--dps-proxy=)?http://.*@" . }}
{{- fail "dpsProxy has credentials, which all who may read the Deployment would see. Set DPS_OPERATOR_DPS_PROXY by extraEnv from a Secret" }}
{{- end }}
{{- end }}
{{- if eq (include "dps-operator.httpPort" .) (int .Values.probePort | toString) }}
{{- fail (printf "probePort is the port of httpAddr, %d: the probes need one of their own" (int .Values.probePort)) }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
{{- fail "metrics.serviceMonitor and metrics.podMonitor are both enabled: everything would be scraped twice. Enable one of them" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.service.enabled) }}
{{- fail "metrics.serviceMonitor needs the Service: set metrics.service.enabled, or use metrics.podMonitor" }}
{{- end }}
{{- if and .Values.simulator.enabled .Values.simulator.tls.existingSecret (not .Values.simulator.tls.ca) }}
{{- fail "simulator.tls.existingSecret needs simulator.tls.ca, the CA certificate that integrations are to trust" }}
{{- end }}
{{- range tuple "listen" "admin" "tls" }}
{{- if hasKey $.Values.simulator.config . }}
{{- fail (printf "simulator.config.%s is set by the chart" .) }}
{{- end }}
{{- end }}
{{- end }}
