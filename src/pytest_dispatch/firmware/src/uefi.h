/*
 * The part of UEFI that the programs of this project use, for x86-64 and AArch64.
 *
 * Names, layouts and numbers are those of the UEFI specification 2.10. The section stands beside
 * each, so that it can be looked up. A member that no program here calls is a plain pointer: it
 * only holds its place.
 *
 * Nothing like the EFIAPI keyword is needed: the calling conventions of firmware (2.3.4, 2.3.6) are
 * those that clang uses for its *-unknown-windows targets anyway.
 */
#pragma once

typedef unsigned char UINT8;
typedef unsigned short UINT16;
typedef unsigned int UINT32;
typedef unsigned long long UINT64;
typedef UINT64 UINTN; /* both architectures are 64 bits wide */
typedef UINT8 BOOLEAN;
typedef char CHAR8;
typedef UINT16 CHAR16; /* what L"text" is made of, for on Windows a wchar_t has 16 bits */
typedef UINTN EFI_STATUS;
typedef void *EFI_HANDLE;
typedef void *EFI_EVENT;

typedef struct {
    UINT32 Data1;
    UINT16 Data2, Data3;
    UINT8 Data4[8];
} EFI_GUID;

#define TRUE 1
#define FALSE 0
#define NULL ((void *)0)

/* Appendix D, Status Codes: an error has the highest bit set. */
#define EFI_ERROR(status) ((status) >> 63)
#define EFI_SUCCESS 0
#define EFI_LOAD_ERROR (1ULL << 63 | 1)
#define EFI_INVALID_PARAMETER (1ULL << 63 | 2)
#define EFI_BUFFER_TOO_SMALL (1ULL << 63 | 5)
#define EFI_NOT_READY (1ULL << 63 | 6)
#define EFI_TIMEOUT (1ULL << 63 | 18)
#define EFI_HTTP_ERROR (1ULL << 63 | 35)

/* 4.2 EFI Table Header */
typedef struct {
    UINT64 Signature;
    UINT32 Revision; /* of the specification: 2.7 is 2 << 16 | 70 */
    UINT32 HeaderSize, Crc32, Reserved;
} EFI_TABLE_HEADER;

/* 12.4 Simple Text Output Protocol */
typedef struct SIMPLE_TEXT_OUTPUT {
    void *Reset;
    EFI_STATUS (*OutputString)(struct SIMPLE_TEXT_OUTPUT *, const CHAR16 *);
} SIMPLE_TEXT_OUTPUT;

/* 10.2 EFI Device Path Protocol: the header of a node; Length counts the header too */
typedef struct {
    UINT8 Type, SubType, Length[2];
} EFI_DEVICE_PATH;

enum { MESSAGING_DEVICE_PATH = 3, MEDIA_DEVICE_PATH = 4, END_DEVICE_PATH = 0x7f };
enum { MSG_IPv4 = 12, MSG_URI = 24, MEDIA_VENDOR = 3, END_ENTIRE = 0xff };

/* 10.3.4.12 IPv4 Device Path; packed, for its last members stand at odd places */
#pragma pack(push, 1)
typedef struct {
    EFI_DEVICE_PATH Header;
    UINT8 LocalIpAddress[4], RemoteIpAddress[4];
    UINT16 LocalPort, RemotePort, Protocol;
    BOOLEAN StaticIpAddress;
    UINT8 GatewayIpAddress[4], SubnetMask[4];
} IPv4_DEVICE_PATH;
#pragma pack(pop)

/* 7 Services - Boot Services */
typedef struct {
    EFI_TABLE_HEADER Hdr;
    void *RaiseTPL, *RestoreTPL;
    void *AllocatePages, *FreePages, *GetMemoryMap, *AllocatePool;
    EFI_STATUS (*FreePool)(void *);
    EFI_STATUS (*CreateEvent)(UINT32, UINTN, void (*)(EFI_EVENT, void *), void *, EFI_EVENT *);
    EFI_STATUS (*SetTimer)(EFI_EVENT, int, UINT64);
    EFI_STATUS (*WaitForEvent)(UINTN, EFI_EVENT *, UINTN *);
    void *SignalEvent;
    EFI_STATUS (*CloseEvent)(EFI_EVENT);
    EFI_STATUS (*CheckEvent)(EFI_EVENT);
    void *InstallProtocolInterface, *ReinstallProtocolInterface, *UninstallProtocolInterface;
    EFI_STATUS (*HandleProtocol)(EFI_HANDLE, const EFI_GUID *, void **);
    void *Reserved, *RegisterProtocolNotify, *LocateHandle;
    EFI_STATUS (*LocateDevicePath)(const EFI_GUID *, EFI_DEVICE_PATH **, EFI_HANDLE *);
    void *InstallConfigurationTable;
    EFI_STATUS (*LoadImage)(BOOLEAN, EFI_HANDLE, EFI_DEVICE_PATH *, const void *, UINTN,
                            EFI_HANDLE *);
    EFI_STATUS (*StartImage)(EFI_HANDLE, UINTN *, CHAR16 **);
    void *Exit, *UnloadImage, *ExitBootServices, *GetNextMonotonicCount;
    EFI_STATUS (*Stall)(UINTN);
    EFI_STATUS (*SetWatchdogTimer)(UINTN, UINT64, UINTN, CHAR16 *);
    void *ConnectController, *DisconnectController, *OpenProtocol, *CloseProtocol;
    void *OpenProtocolInformation, *ProtocolsPerHandle, *LocateHandleBuffer, *LocateProtocol;
    EFI_STATUS (*InstallMultipleProtocolInterfaces)(EFI_HANDLE *, ...);
} EFI_BOOT_SERVICES;

enum { EVT_NOTIFY_SIGNAL = 0x200 }; /* 7.1.1 EFI_BOOT_SERVICES.CreateEvent() */
#define EVT_TIMER 0x80000000U
enum { TPL_CALLBACK = 8 };  /* 7.1 Event, Timer, and Task Priority Services */
enum { TimerRelative = 2 }; /* 7.1.7 EFI_BOOT_SERVICES.SetTimer(), in units of 100 ns */

/* 8 Services - Runtime Services */
typedef struct {
    EFI_TABLE_HEADER Hdr;
    void *GetTime, *SetTime, *GetWakeupTime, *SetWakeupTime;
    void *SetVirtualAddressMap, *ConvertPointer;
    void *GetVariable, *GetNextVariableName, *SetVariable, *GetNextHighMonotonicCount;
    void (*ResetSystem)(int, EFI_STATUS, UINTN, void *);
} EFI_RUNTIME_SERVICES;

enum { EfiResetCold, EfiResetWarm, EfiResetShutdown }; /* 8.5.1 ResetSystem() */

/* 4.3 EFI System Table */
typedef struct {
    EFI_TABLE_HEADER Hdr;
    CHAR16 *FirmwareVendor;
    UINT32 FirmwareRevision;
    EFI_HANDLE ConsoleInHandle;
    void *ConIn;
    EFI_HANDLE ConsoleOutHandle;
    SIMPLE_TEXT_OUTPUT *ConOut;
    EFI_HANDLE StandardErrorHandle;
    SIMPLE_TEXT_OUTPUT *StdErr;
    EFI_RUNTIME_SERVICES *RuntimeServices;
    EFI_BOOT_SERVICES *BootServices;
} EFI_SYSTEM_TABLE;

/* 9.1 EFI Loaded Image Protocol */
typedef struct {
    UINT32 Revision;
    EFI_HANDLE ParentHandle;
    EFI_SYSTEM_TABLE *SystemTable;
    EFI_HANDLE DeviceHandle;
    EFI_DEVICE_PATH *FilePath;
    void *Reserved;
    UINT32 LoadOptionsSize;
    void *LoadOptions;
} EFI_LOADED_IMAGE;

/* 9.2 EFI Loaded Image Device Path Protocol: the whole way by which an image came */
#define EFI_LOADED_IMAGE_DEVICE_PATH_GUID                                                          \
    {0xbc62157e, 0x3e33, 0x4fec, {0x99, 0x20, 0x2d, 0x3b, 0x36, 0xd7, 0x50, 0xdf}}
#define EFI_LOADED_IMAGE_GUID                                                                      \
    {0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}}
#define EFI_DEVICE_PATH_GUID                                                                       \
    {0x09576e91, 0x6d3f, 0x11d2, {0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}}

/* 11.6 EFI Service Binding Protocol */
typedef struct EFI_SERVICE_BINDING {
    EFI_STATUS (*CreateChild)(struct EFI_SERVICE_BINDING *, EFI_HANDLE *);
    EFI_STATUS (*DestroyChild)(struct EFI_SERVICE_BINDING *, EFI_HANDLE);
} EFI_SERVICE_BINDING;

/* 29.6 EFI HTTP Protocols */
#define EFI_HTTP_SERVICE_BINDING_GUID                                                              \
    {0xbdc8e6af, 0xd9bc, 0x4379, {0xa7, 0x2a, 0xe0, 0xc4, 0xe7, 0x5d, 0xae, 0x1c}}
#define EFI_HTTP_GUID                                                                              \
    {0x7a59b29b, 0x910b, 0x4171, {0x82, 0x42, 0xa8, 0x5a, 0x0d, 0xf2, 0x5b, 0x5b}}

enum { HttpVersion11 = 1 };
enum { HttpMethodPost = 1, HttpMethodPut = 6 };

typedef struct {
    BOOLEAN UseDefaultAddress;
    UINT8 LocalAddress[4], LocalSubnet[4];
    UINT16 LocalPort;
} EFI_HTTPv4_ACCESS_POINT;

typedef struct {
    int HttpVersion;
    UINT32 TimeOutMillisec;
    BOOLEAN LocalAddressIsIPv6;
    EFI_HTTPv4_ACCESS_POINT *IPv4Node;
} EFI_HTTP_CONFIG_DATA;

typedef struct {
    int Method;
    CHAR16 *Url;
} EFI_HTTP_REQUEST_DATA;

typedef struct {
    int StatusCode; /* an enumeration, not the number that went over the wire */
} EFI_HTTP_RESPONSE_DATA;

typedef struct {
    CHAR8 *FieldName, *FieldValue;
} EFI_HTTP_HEADER;

typedef struct {
    union {
        EFI_HTTP_REQUEST_DATA *Request;
        EFI_HTTP_RESPONSE_DATA *Response;
    } Data;
    UINTN HeaderCount;
    EFI_HTTP_HEADER *Headers;
    UINTN BodyLength;
    void *Body;
} EFI_HTTP_MESSAGE;

typedef struct {
    EFI_EVENT Event;
    EFI_STATUS Status;
    EFI_HTTP_MESSAGE *Message;
} EFI_HTTP_TOKEN;

typedef struct EFI_HTTP {
    void *GetModeData;
    EFI_STATUS (*Configure)(struct EFI_HTTP *, EFI_HTTP_CONFIG_DATA *);
    EFI_STATUS (*Request)(struct EFI_HTTP *, EFI_HTTP_TOKEN *);
    EFI_STATUS (*Cancel)(struct EFI_HTTP *, EFI_HTTP_TOKEN *);
    EFI_STATUS (*Response)(struct EFI_HTTP *, EFI_HTTP_TOKEN *);
    EFI_STATUS (*Poll)(struct EFI_HTTP *);
} EFI_HTTP;

/* 13.2 EFI Load File 2 Protocol */
#define EFI_LOAD_FILE2_GUID                                                                        \
    {0x4006c0c1, 0xfcb3, 0x403e, {0x99, 0x6d, 0x4a, 0x6c, 0x87, 0x24, 0xe0, 0x6d}}

typedef struct EFI_LOAD_FILE2 {
    EFI_STATUS (*LoadFile)(struct EFI_LOAD_FILE2 *, EFI_DEVICE_PATH *, BOOLEAN, UINTN *, void *);
} EFI_LOAD_FILE2;
