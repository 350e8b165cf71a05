/* Decide about an image with a cascade file: the whole decision is in the graph, so any binding of ONNX Runtime takes it.
 *
 *     cc cascade.c -I onnxruntime/include -L onnxruntime/lib -lonnxruntime -o cascade
 *     ./cascade local.onnx image.rgb HEIGHT WIDTH [THRESHOLD]
 *
 * image.rgb holds the pixels, uint8 [HEIGHT, WIDTH, 3]. THRESHOLD replaces the one in the file. */

#include <onnxruntime_c_api.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { LABEL, CONFIDENCE, ADVANTAGE, FORWARD, OUTPUTS };

static const OrtApi *ort;

static void check(OrtStatus *status) {
  if (status == NULL) return;
  fprintf(stderr, "cascade: %s\n", ort->GetErrorMessage(status));
  exit(1);
}

static OrtValue *tensor(void *data, size_t bytes, const int64_t *shape, size_t sides, ONNXTensorElementDataType type) {
  OrtMemoryInfo *cpu;
  OrtValue *value;
  check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &cpu));
  check(ort->CreateTensorWithDataAsOrtValue(cpu, data, bytes, shape, sides, type, &value));
  ort->ReleaseMemoryInfo(cpu);
  return value;
}

int main(int count, char **arguments) {
  if (count < 5) return fprintf(stderr, "usage: cascade FILE IMAGE HEIGHT WIDTH [THRESHOLD]\n"), 2;
  setenv("ORT_DISABLE_TELEMETRY", "1", 0); /* ONNX Runtime 1.29 and newer collects usage events otherwise */
  ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  if (ort == NULL) return fprintf(stderr, "cascade: the library is older than the header\n"), 1;

  char *end = "";
  float threshold = count > 5 ? strtof(arguments[5], &end) : 0;
  if (*end != 0 || threshold != threshold || (count > 5 && end == arguments[5]))
    return fprintf(stderr, "cascade: %s: expected a number as the threshold\n", arguments[5]), 2;

  const int64_t shape[] = {1, atoi(arguments[3]), atoi(arguments[4]), 3};
  const size_t bytes = (size_t)(shape[1] * shape[2] * shape[3]);
  uint8_t *pixels = malloc(bytes);
  FILE *image = fopen(arguments[2], "rb");
  if (pixels == NULL || image == NULL || fread(pixels, 1, bytes, image) != bytes || fgetc(image) != EOF)
    return fprintf(stderr, "cascade: %s: expected %zu bytes\n", arguments[2], bytes), 1;
  fclose(image);

  OrtEnv *environment;
  OrtSessionOptions *options;
  OrtSession *session;
  check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "cascade", &environment)); /* warnings name the inputs with defaults */
  check(ort->CreateSessionOptions(&options));
  check(ort->SetIntraOpNumThreads(options, 1));
  check(ort->CreateSession(environment, arguments[1], options, &session));

  const char *inputs[] = {"image", "threshold"};
  const OrtValue *feeds[] = {tensor(pixels, bytes, shape, 4, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8),
                             tensor(&threshold, sizeof threshold, NULL, 0, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)};
  const char *names[OUTPUTS] = {"label", "confidence", "advantage", "forward"};
  OrtValue *outputs[OUTPUTS] = {NULL};
  void *data[OUTPUTS];
  check(ort->Run(session, NULL, inputs, feeds, count > 5 ? 2 : 1, names, OUTPUTS, outputs));
  for (int i = 0; i < OUTPUTS; i++) check(ort->GetTensorMutableData(outputs[i], &data[i]));
  printf("label %lld confidence %.9g advantage %.9g forward %d\n", (long long)*(int64_t *)data[LABEL],
         *(float *)data[CONFIDENCE], *(float *)data[ADVANTAGE], *(uint8_t *)data[FORWARD]);

  for (int i = 0; i < OUTPUTS; i++) ort->ReleaseValue(outputs[i]);
  ort->ReleaseValue((OrtValue *)feeds[0]);
  ort->ReleaseValue((OrtValue *)feeds[1]);
  ort->ReleaseSession(session);
  ort->ReleaseSessionOptions(options);
  ort->ReleaseEnv(environment);
  free(pixels);
  return 0;
}
