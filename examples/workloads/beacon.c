#include "beacon.h"
#include "origin.h"

enum { TRIES = 5, ANSWER_SECONDS = 20 };

static const EFI_GUID HTTP = EFI_HTTP_GUID;
static const EFI_GUID HTTP_SERVICE = EFI_HTTP_SERVICE_BINDING_GUID;

static struct origin origin;
static EFI_SERVICE_BINDING *service; /* NULL: there is no lab, or no way to talk to it */
static CHAR16 url[sizeof origin.url];
static CHAR8 host[sizeof origin.url];
static EFI_STATUS failure; /* why there was no answer */

/* 29.6: EFI_HTTP_STATUS_CODE counts the status codes through; these are their numbers. */
static const UINT16 STATUS_NUMBERS[] = {
    0,   100, 101, 200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 305, 307, 400,
    401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 500,
    501, 502, 503, 504, 505, 308,
};

static UINT16 number_of(int status)
{
    return (UINTN)status < sizeof STATUS_NUMBERS / 2 ? STATUS_NUMBERS[status] : 0;
}

/* The URL in the firmware's kind of text, and its host with the port, which we have to send. */
static void split_url(void)
{
    const CHAR8 *rest = origin.url;
    CHAR8 *end = host;

    for (UINTN i = 0; origin.url[i]; i++)
        url[i] = (UINT8)origin.url[i];
    while (*rest && !(rest[0] == '/' && rest[1] == '/'))
        rest++;
    for (rest += *rest ? 2 : 0; *rest && *rest != '/' && *rest != '?'; rest++)
        *end++ = *rest;
}

void beacon_start(EFI_HANDLE image, EFI_SYSTEM_TABLE *system, const CHAR8 *name)
{
    EFI_BOOT_SERVICES *boot = system->BootServices;
    EFI_HANDLE card;

    firmware = system;
    boot->SetWatchdogTimer(0, 0, 0, NULL); /* 7.5.1: a workload may need more than its 5 minutes */
    say("\r\n", name, ": running");
    if (!find_origin(image, &origin)) {
        say(name, ": not booted from a URL, so there is no lab to report to; use UEFI HTTP boot");
        return;
    }
    /* 7.3.8: the card that firmware booted from is the nearest on the way that offers HTTP. */
    if (!origin.path || EFI_ERROR(boot->LocateDevicePath(&HTTP_SERVICE, &origin.path, &card)) ||
        EFI_ERROR(boot->HandleProtocol(card, &HTTP_SERVICE, (void **)&service))) {
        say(name, ": no HTTP in this firmware (as under iPXE), so this cannot be reported");
        return;
    }
    split_url();
    say(name, ": lab is ", origin.url);
}

static void set_flag(EFI_EVENT event, void *flag)
{
    (void)event;
    *(volatile BOOLEAN *)flag = TRUE;
}

/* 29.6: asks for something (`ask` is Request or Response) and drives the network until it is done.
   The firmware would do so by its timer too, only later. */
static EFI_STATUS complete(EFI_HTTP *http, EFI_STATUS (*ask)(EFI_HTTP *, EFI_HTTP_TOKEN *),
                           EFI_HTTP_MESSAGE *message)
{
    EFI_BOOT_SERVICES *boot = firmware->BootServices;
    volatile BOOLEAN done = FALSE;
    EFI_HTTP_TOKEN token = {NULL, EFI_NOT_READY, message};
    EFI_EVENT late;
    EFI_STATUS status;

    boot->CreateEvent(EVT_NOTIFY_SIGNAL, TPL_CALLBACK, set_flag, (void *)&done, &token.Event);
    boot->CreateEvent(EVT_TIMER, TPL_CALLBACK, NULL, NULL, &late);
    boot->SetTimer(late, TimerRelative, ANSWER_SECONDS * 10000000ULL);
    status = ask(http, &token);
    if (!EFI_ERROR(status)) {
        while (!done && EFI_ERROR(boot->CheckEvent(late)))
            http->Poll(http);
        status = done ? token.Status : EFI_TIMEOUT;
        if (!done)
            http->Cancel(http, &token); /* `token` is on this stack: nobody may write to it later */
    }
    boot->CloseEvent(late);
    boot->CloseEvent(token.Event);
    return status;
}

static EFI_STATUS send(EFI_HTTP *http, int method, struct text *body)
{
    EFI_HTTP_REQUEST_DATA request = {method, url};
    EFI_HTTP_HEADER headers[] = {
        {"Host", host},
        {"User-Agent", "dispatch-beacon/1.0 (UEFI)"},
        {"Content-Length", (CHAR8 *)decimal(body ? body->length : 0)},
        {"Content-Type", "application/json"},
    };
    EFI_HTTP_MESSAGE message = {
        .Data.Request = &request,
        .HeaderCount = body ? 4 : 3, /* the type is the body's: no body, no type */
        .Headers = headers,
        .BodyLength = body ? body->length : 0,
        .Body = body ? body->bytes : NULL,
    };
    return complete(http, http->Request, &message);
}

/* The number of the answer's status. Its body is not asked for: a read of one that is not there
   waits until it times out, and a part that is left unread would begin the next answer. */
static EFI_STATUS receive(EFI_HTTP *http, UINT16 *number)
{
    EFI_HTTP_RESPONSE_DATA response = {0};
    EFI_HTTP_MESSAGE message = {.Data.Response = &response};
    EFI_STATUS status = complete(http, http->Response, &message);

    if (status == EFI_HTTP_ERROR) /* "status 4xx or 5xx": an answer as good as any */
        status = EFI_SUCCESS;
    *number = number_of(response.StatusCode);
    if (message.Headers)
        firmware->BootServices->FreePool(message.Headers);
    return status;
}

/* One request on an instance of its own, so that nothing is left over from the one before.
   Returns the status number of the answer, 0 if there was none. */
static UINT16 exchange(int method, struct text *body)
{
    /* The address has to be given: what DHCP told the boot driver is not the card's default. Routes
       need nothing: that driver has set the gateway for the whole card. */
    EFI_HTTPv4_ACCESS_POINT from = {.UseDefaultAddress = FALSE};
    EFI_HTTP_CONFIG_DATA config = {HttpVersion11, ANSWER_SECONDS * 1000, FALSE, &from};
    EFI_HANDLE child = NULL;
    EFI_HTTP *http;
    UINT16 number = 0;

    for (int i = 0; i < 4; i++) {
        from.LocalAddress[i] = origin.address[i];
        from.LocalSubnet[i] = origin.mask[i];
    }
    failure = service->CreateChild(service, &child);
    if (EFI_ERROR(failure))
        return 0;
    failure = firmware->BootServices->HandleProtocol(child, &HTTP, (void **)&http);
    if (!EFI_ERROR(failure))
        failure = http->Configure(http, &config);
    if (!EFI_ERROR(failure))
        failure = send(http, method, body);
    if (!EFI_ERROR(failure))
        failure = receive(http, &number);
    service->DestroyChild(service, child);
    return EFI_ERROR(failure) ? 0 : number;
}

/* Tries again, ever more slowly, while the lab does not answer or is in trouble (5xx). That is
   safe: a lab takes a repeated POST or PUT for what it is, the same one again. */
static BOOLEAN tell(const CHAR8 *what, int method, struct text *body)
{
    for (int try = 0; service && try < TRIES; try++) {
        UINT16 number = exchange(method, body);
        if (number)
            say("dispatch: ", what, ": the lab answered ", decimal(number));
        else
            say("dispatch: ", what, ": no answer (EFI status 0x", hexadecimal(failure), ")");
        if (number && number < 500)
            return number >= 200 && number < 300;
        firmware->BootServices->Stall(1000 * 1000 << try);
    }
    say("dispatch: ", what, ": could not be told");
    return FALSE;
}

BOOLEAN beacon_boot(void)
{
    return tell("boot", HttpMethodPost, NULL);
}

BOOLEAN beacon_report(struct text *json)
{
    return tell("report", HttpMethodPut, json);
}

_Noreturn void beacon_reset(void)
{
    say("dispatch: resetting");
    firmware->RuntimeServices->ResetSystem(EfiResetCold, EFI_SUCCESS, 0, NULL);
    for (;;) /* not reached (8.5.1) */
        ;
}
