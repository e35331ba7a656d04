{{- /* All that the chart refuses and a schema cannot say. Kubernetes would refuse it in the middle of an installation, or the operator would not work. */}}
{{- define "usercert-operator.refuse" -}}
{{- include "usercert-operator.refuseNames" . }}
{{- include "usercert-operator.refuseGuarded" . }}
{{- include "usercert-operator.refuseShortStop" . }}
{{- include "usercert-operator.refuseOutside" . }}
{{- include "usercert-operator.refuseStrategy" . }}
{{- if and (eq (default "" .Values.dnsPolicy) "None") (not (default dict .Values.dnsConfig).nameservers) }}
{{- fail "dnsPolicy: None needs dnsConfig.nameservers: the Pods would have no name server" }}
{{- end }}
{{- range .Values.extraVolumes }}
{{- if or (and (eq .name "atlas-ca") $.Values.atlas.caBundle.configMap) (and (eq .name "metrics-certificate") (include "usercert-operator.metricsSecret" $)) }}
{{- fail (printf "extraVolumes has %s, which is the name of a volume of the chart: give yours another one" .name) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "usercert-operator.refuseNames" -}}
{{- $name := include "usercert-operator.fullname" . }}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" $name) }}
{{- fail (printf "%s is no name of an object: set fullnameOverride to one of small letters, digits and hyphens, or change nameOverride" $name) }}
{{- end }}
{{- if and .Values.service.enabled (not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name)) }}
{{- fail (printf "%s is no name of a Service, which begins with a letter and has no dots: set fullnameOverride to one of small letters, digits and hyphens, or service.enabled=false" $name) }}
{{- end }}
{{- end }}

{{- /* In namespaced mode the operator has rights in watchNamespaces alone, and does not use the Atlas Kubernetes Operator's own credentials. */}}
{{- define "usercert-operator.refuseOutside" -}}
{{- if and .Values.watchNamespaces .Values.atlas.operatorSecret }}
{{- fail "atlas.operatorSecret serves the whole cluster alone, and with watchNamespaces no certificate uses it: leave it out, and have each AtlasProject or AtlasDatabaseUser name a Secret" }}
{{- end }}
{{- range .Values.atlas.lendCredentialsTo }}
{{- if and $.Values.watchNamespaces (not (has . $.Values.watchNamespaces)) }}
{{- fail (printf "atlas.lendCredentialsTo has %s, which is not among watchNamespaces, so the operator may read nothing there: add it to watchNamespaces, or leave it out" .) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "usercert-operator.refuseStrategy" -}}
{{- if not .Values.leaderElection.enabled }}
{{- if gt (int .Values.replicaCount) 1 }}{{ fail "replicaCount above 1 needs leaderElection.enabled: two would work against each other" }}{{ end }}
{{- if eq (toString .Values.updateStrategy.type) "RollingUpdate" }}{{ fail "updateStrategy.type: RollingUpdate needs leaderElection.enabled: two would work against each other during an upgrade" }}{{ end }}
{{- end }}
{{- $strategy := include "usercert-operator.updateStrategy" . | fromYaml }}
{{- with $strategy.rollingUpdate }}
{{- if ne $strategy.type "RollingUpdate" }}{{ fail (printf "updateStrategy.rollingUpdate is nothing for the type %s: leave it out" $strategy.type) }}{{ end }}
{{- if and (has (toString .maxSurge) (list "0" "0%")) (has (toString .maxUnavailable) (list "0" "0%")) }}
{{- fail "updateStrategy.rollingUpdate has maxSurge and maxUnavailable 0, so no Pod could be replaced: let one of them be more" }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The length of a duration of Prometheus in milliseconds. */}}
{{- define "usercert-operator.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 "w" 604800000 "y" 31536000000 }}
{{- $sum := 0 }}
{{- range regexFindAll "[0-9]+(ms|[smhdwy])" . -1 }}
{{- $sum = add $sum (mul (regexFind "^[0-9]+" . | int64) (get $units (regexFind "[a-z]+$" .) | int64)) }}
{{- end }}
{{- $sum }}
{{- end }}

{{- /* By the name of the monitor, its endpoint, and all values. Prometheus forgets a series after five minutes, and the alerts look for growth within ten. */}}
{{- define "usercert-operator.refuseSlowScrape" -}}
{{- $monitor := index . 0 }}
{{- $interval := index . 1 "interval" | default "" | include "usercert-operator.milliseconds" | int64 }}
{{- $limit := index . 1 "scrapeTimeout" | default "" | include "usercert-operator.milliseconds" | int64 }}
{{- if and (index . 2).prometheusRule.enabled (gt $interval 240000) }}
{{- fail (printf "%s.interval is above 4m: Prometheus forgets a series after 5m, and the alerts would miss what goes on between two scrapes. Set it to 2m or less" $monitor) }}
{{- end }}
{{- if and $interval (gt $limit $interval) }}
{{- fail (printf "%s.scrapeTimeout is above %s.interval, which Prometheus refuses" $monitor $monitor) }}
{{- end }}
{{- end }}

{{- /* What would get round the checks of this chart: an argument, its variable, and the value that is to be set instead. */}}
{{- define "usercert-operator.guarded" -}}
- [leader-elect, LEADER_ELECT, leaderElection.enabled]
- [lease-name, LEASE_NAME, fullnameOverride]
- [pod-name, POD_NAME, ""]
- [operator-namespace, POD_NAMESPACE, ""]
- [watch-namespace, WATCH_NAMESPACES, watchNamespaces]
- [stop-limit, STOP_LIMIT_SECONDS, terminationGracePeriodSeconds]
- [http-address, HTTP_ADDRESS, ""]
- [metrics-secure, METRICS_SECURE, metrics.secure.enabled]
- [metrics-secure-address, METRICS_SECURE_ADDRESS, ""]
- [metrics-cert-file, METRICS_CERT_FILE, metrics.secure.certificateSecret]
- [metrics-key-file, METRICS_KEY_FILE, metrics.secure.certificateSecret]
- [atlas-timeout, ATLAS_TIMEOUT_SECONDS, atlas.timeoutSeconds]
- [rollout, ROLLOUT, rollout.enabled]
- [rollout-kind, ROLLOUT_KINDS, rollout.kinds]
{{- end }}

{{- /* Fails if the process could be killed before it has saved the answer of Atlas. A failed probe with a grace period of its own would have the kubelet
go by that one in place of the Pod's. */}}
{{- define "usercert-operator.refuseShortStop" -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (add .Values.atlas.timeoutSeconds 30 | int) }}
{{- fail "terminationGracePeriodSeconds must be at least atlas.timeoutSeconds and 30: Atlas's answer to a request for a certificate would be cut off, and its key lost" }}
{{- end }}
{{- range $name, $probe := .Values.probes }}
{{- if hasKey (default dict $probe) "terminationGracePeriodSeconds" }}
{{- fail (printf "probes.%s.terminationGracePeriodSeconds would take the place of that of the Pod, which the operator's own limits go by: Atlas's answer to a request for a certificate could be cut off, and its key lost. Leave it out, and set terminationGracePeriodSeconds" $name) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Fails if extraArgs or extraEnv sets one of these. */}}
{{- define "usercert-operator.refuseGuarded" -}}
{{- range $guarded := include "usercert-operator.guarded" . | fromYamlArray }}
{{- $instead := index $guarded 2 | empty | ternary "leave it out" (printf "set %s" (index $guarded 2)) }}
{{- range $.Values.extraArgs }}
{{- if eq (splitList "=" . | first) (printf "--%s" (index $guarded 0)) }}
{{- fail (printf "extraArgs has --%s, which the rest of the chart goes by: %s" (index $guarded 0) $instead) }}
{{- end }}
{{- end }}
{{- range $.Values.extraEnv }}
{{- if eq .name (index $guarded 1) }}
{{- fail (printf "extraEnv has %s, which the rest of the chart goes by: %s" .name $instead) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
