/* The part of ONNX Runtime's C API that runtime/c/cascade.c uses, for machines without the header of the release.
 *
 * OrtApi is a table of functions whose places never change; those that are not used are skipped by their number. */
#ifndef EDGECASCADE_TESTS_ONNXRUNTIME_C_API_H
#define EDGECASCADE_TESTS_ONNXRUNTIME_C_API_H

#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION 19
#define SKIP(place, functions) void *skipped_##place[functions];

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtValue OrtValue;
typedef struct OrtMemoryInfo OrtMemoryInfo;

typedef enum { ORT_LOGGING_LEVEL_VERBOSE, ORT_LOGGING_LEVEL_INFO, ORT_LOGGING_LEVEL_WARNING, ORT_LOGGING_LEVEL_ERROR } OrtLoggingLevel;
typedef enum { ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 } ONNXTensorElementDataType;
typedef enum { OrtDeviceAllocator, OrtArenaAllocator } OrtAllocatorType;
typedef enum { OrtMemTypeDefault } OrtMemType;

typedef struct {
  SKIP(0, 2)
  const char *(*GetErrorMessage)(const OrtStatus *);
  OrtStatus *(*CreateEnv)(OrtLoggingLevel, const char *, OrtEnv **);
  SKIP(4, 3)
  OrtStatus *(*CreateSession)(const OrtEnv *, const char *, const OrtSessionOptions *, OrtSession **);
  SKIP(8, 1)
  OrtStatus *(*Run)(OrtSession *, const OrtRunOptions *, const char *const *, const OrtValue *const *, size_t,
                    const char *const *, size_t, OrtValue **);
  OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **);
  SKIP(11, 13)
  OrtStatus *(*SetIntraOpNumThreads)(OrtSessionOptions *, int);
  SKIP(25, 24)
  OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *, void *, size_t, const int64_t *, size_t,
                                               ONNXTensorElementDataType, OrtValue **);
  SKIP(50, 1)
  OrtStatus *(*GetTensorMutableData)(OrtValue *, void **);
  SKIP(52, 17)
  OrtStatus *(*CreateCpuMemoryInfo)(OrtAllocatorType, OrtMemType, OrtMemoryInfo **);
  SKIP(70, 22)
  void (*ReleaseEnv)(OrtEnv *);
  void (*ReleaseStatus)(OrtStatus *);
  void (*ReleaseMemoryInfo)(OrtMemoryInfo *);
  void (*ReleaseSession)(OrtSession *);
  void (*ReleaseValue)(OrtValue *);
  SKIP(97, 3)
  void (*ReleaseSessionOptions)(OrtSessionOptions *);
} OrtApi;

typedef struct {
  const OrtApi *(*GetApi)(uint32_t);
  const char *(*GetVersionString)(void);
} OrtApiBase;

const OrtApiBase *OrtGetApiBase(void);

#endif
