{{- define "wattline.labels" -}}
app.kubernetes.io/name: wattline
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- define "wattline.selector" -}}
app.kubernetes.io/name: wattline
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
