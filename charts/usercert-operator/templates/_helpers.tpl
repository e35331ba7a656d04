{{- define "usercert-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "usercert-operator.fullname" -}}
{{- $name := include "usercert-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "usercert-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "usercert-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "usercert-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "usercert-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "usercert-operator.serviceAccountName" -}}
{{- default (include "usercert-operator.fullname" .) .Values.serviceAccount.name }}
{{- end }}

{{- define "usercert-operator.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{- /* The rules in each namespace that is served. */}}
{{- define "usercert-operator.namespacedRules" -}}
- apiGroups: [usercert.dev]
  resources: [databaseusercertificates, certificateissuers]
  verbs: [get, list, watch]
- apiGroups: [usercert.dev]
  resources: [databaseusercertificates/status, certificateissuers/status]
  verbs: [patch]
# Owner references that block the owner's deletion need this where OwnerReferencesPermissionEnforcement is on, as on OpenShift.
- apiGroups: [usercert.dev]
  resources: [databaseusercertificates/finalizers]
  verbs: [update]
# Lists and watches ask for metadata only, of Secrets with the operator's label or of one by its name; RBAC cannot say so.
# Secrets are never deleted by the operator: the garbage collector does that, by their owner.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch]
# Objects of the Atlas Kubernetes Operator that projectRef and userRef name. They are only read, and need not be served.
- apiGroups: [atlas.mongodb.com]
  resources: [atlasprojects, atlasdatabaseusers]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- /* Not empty if the admission policy is installed. */}}
{{- define "usercert-operator.admissionPolicy" -}}
{{- if eq (toString .Values.admissionPolicy.enabled) "auto" -}}
{{- if not .Values.watchNamespaces -}}true{{- end -}}
{{- else if .Values.admissionPolicy.enabled -}}true
{{- end -}}
{{- end }}
