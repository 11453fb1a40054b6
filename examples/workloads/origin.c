#include "origin.h"
#include "console.h"

static const EFI_GUID LOADED_IMAGE = EFI_LOADED_IMAGE_GUID;
static const EFI_GUID LOADED_IMAGE_PATH = EFI_LOADED_IMAGE_DEVICE_PATH_GUID;

static UINTN size_of(const EFI_DEVICE_PATH *node)
{
    return node->Length[0] | (UINTN)node->Length[1] << 8;
}

static void copy_url(struct origin *origin, const CHAR8 *bytes, UINTN size)
{
    UINTN length = 0;

    while (length < size && bytes[length])
        length++;
    if (length == 0 || length >= sizeof origin->url)
        return; /* an empty node (10.3.4.22), or longer than any boot URL: keep what was found */
    for (UINTN i = 0; i < length; i++)
        origin->url[i] = bytes[i];
    origin->url[length] = 0;
}

/* 24.7: firmware that boots over HTTP leaves the address that it got, and the URL in full, as
   nodes of the image's path, also when the URL came by DHCP and stands in no variable. Of an ISO or
   disk image the path goes on from there: .../MAC(..)/IPv4(..)/Uri(http://..)/RamDisk(..)/.. */
static void read_path(struct origin *origin)
{
    EFI_DEVICE_PATH *node = origin->path;

    for (; node->Type != END_DEVICE_PATH && size_of(node) >= sizeof *node;
         node = (EFI_DEVICE_PATH *)((UINT8 *)node + size_of(node))) {
        if (node->Type != MESSAGING_DEVICE_PATH)
            continue;
        if (node->SubType == MSG_URI)
            copy_url(origin, (const CHAR8 *)(node + 1), size_of(node) - sizeof *node);
        if (node->SubType == MSG_IPv4 && size_of(node) >= sizeof(IPv4_DEVICE_PATH)) {
            const IPv4_DEVICE_PATH *ip = (const IPv4_DEVICE_PATH *)node;
            for (int i = 0; i < 4; i++) {
                origin->address[i] = ip->LocalIpAddress[i];
                origin->mask[i] = ip->SubnetMask[i];
            }
        }
    }
}

/* iPXE leaves no URL in the path, but passes words on: `chain http://lab:8080/dispatch url=...`. */
static void read_options(struct origin *origin, const EFI_LOADED_IMAGE *image)
{
    const CHAR16 *words = image->LoadOptions;
    UINTN count = image->LoadOptionsSize / sizeof *words;
    CHAR8 url[sizeof origin->url];
    UINTN length = 0;

    for (UINTN i = 0; i + 4 < count; i++) {
        if (words[i] != 'u' || words[i + 1] != 'r' || words[i + 2] != 'l' || words[i + 3] != '=')
            continue;
        for (i += 4; i < count && words[i] > ' ' && words[i] <= '~' && length < sizeof url; i++)
            url[length++] = (CHAR8)words[i];
        copy_url(origin, url, length);
        return;
    }
}

BOOLEAN find_origin(EFI_HANDLE image, struct origin *origin)
{
    EFI_BOOT_SERVICES *boot = firmware->BootServices;
    void *found;

    if (!EFI_ERROR(boot->HandleProtocol(image, &LOADED_IMAGE_PATH, &found)) && found) {
        origin->path = found;
        read_path(origin);
    }
    if (!origin->url[0] && !EFI_ERROR(boot->HandleProtocol(image, &LOADED_IMAGE, &found)))
        read_options(origin, found);
    return origin->url[0] != 0;
}
